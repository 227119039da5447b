"""The look at the whole training set that some methods take before their first step."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from common.errors import Interrupted
from dataset import Arrays, DatasetEntry, evaluation_batches
from engine.compute import Compute
from engine.deployed import Deployed
from engine.evaluate import batch_size_for
from engine.failures import Outcome, attempted
from engine.member import Member
from engine.progress import Progress


def survey_group(
    members: Sequence[Member],
    teachers: Sequence[Deployed],
    data: Arrays,
    entry: DatasetEntry,
    compute: Compute,
    progress: Progress,
    stopped: Callable[[], bool],
    outcome: Outcome,
) -> list[Member]:
    """Let the methods look that want to, and return the members that go on; `outcome` has why others do not.

    Raises:
        Interrupted: `stopped` said so. A run that has taken no step begins with its survey again.
    """
    going_on = []
    for member in members:
        if member.method.overrides("survey") and not member.resumed:
            progress.line(f"{member.plan.label}: a look at all training images before the first step")
            look = partial(survey, member, teachers, data, entry, compute, stopped)
            if not attempted(member, look, outcome, compute.world, progress, lethal=(Interrupted,)):
                continue
        going_on.append(member)
    return going_on


def survey(
    member: Member,
    teachers: Sequence[Deployed],
    data: Arrays,
    entry: DatasetEntry,
    compute: Compute,
    stopped: Callable[[], bool],
) -> None:
    """Show a method all training images, as they would be tested, through its teachers (`Method.survey`).

    Of several processes each sees them all: so all hold the same, whatever their number.

    Raises:
        Interrupted: `stopped` said so.
    """
    needs = member.method.reads_of_teacher()
    size = batch_size_for(entry.image_size)
    for images, labels in evaluation_batches(data.train_images, data.train_labels, entry, size, compute.device):
        if stopped():
            raise Interrupted
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            with compute.autocast():
                seen = tuple(teacher.features(images).only(needs, copy=True) for teacher in teachers)
            member.method.survey(seen, labels)
