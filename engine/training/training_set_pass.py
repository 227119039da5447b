"""The look at the whole training set that some methods take before their first step."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from common.errors import Interrupted
from common.seeds import derive_seed
from dataset import Arrays, DatasetEntry, evaluation_batches
from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.compute import Compute
from engine.records.progress import Progress
from engine.training.evaluation import batch_size_for
from engine.training.failures import Outcome, attempted
from engine.training.student_run import StudentRun
from models import Features


def survey_group(
    members: Sequence[StudentRun],
    teachers: Sequence[InferenceNetwork],
    data: Arrays,
    entry: DatasetEntry,
    compute: Compute,
    progress: Progress,
    stopped: Callable[[], bool],
    outcome: Outcome,
) -> list[StudentRun]:
    """Show all training images, as they would be tested, to methods with `Method.fit_on_training_set`.

    One pass of the teachers serves all of them. Of several processes each sees all images; what the first one learned
    is what counts.

    Returns:
        The members that go on; `outcome` has why others do not.

    Raises:
        Interrupted: `stopped` said so. A run that has taken no step begins with its look again.
        Exception: of what members share, the images and the teachers' pass.
    """
    going_on = list(members)
    looking = [m for m in members if m.method.needs_training_set_pass and m.plan.weights.beta and not m.resumed]
    if not looking:
        return going_on
    labels = ", ".join(member.plan.label for member in looking)
    progress.line(f"{labels}: a look at all training images before the first step")
    needs = {name for member in looking for name in member.method.reads_of_teacher()}
    size = batch_size_for(entry.image_size)
    batches = evaluation_batches(data.train_images, data.train_labels, entry, size, compute.device)
    for number, (images, answers) in enumerate(batches):
        if stopped():
            raise Interrupted
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), compute.autocast():
            seen = tuple(teacher.features(images).only(needs, copy=True) for teacher in teachers)
        for member in list(looking):
            show = partial(_show, member, seen, answers, number)
            if not attempted(member, show, outcome, compute.world, progress):
                looking.remove(member)
                going_on.remove(member)
    for member in looking:
        compute.world.broadcast(member.method)
    return going_on


@torch.no_grad()
def _show(member: StudentRun, seen: tuple[Features, ...], labels: Tensor, number: int) -> None:
    """Show a method one batch."""
    torch.manual_seed(derive_seed(member.plan.seed, "survey", number))
    needs = member.method.reads_of_teacher()
    member.method.fit_on_training_set(tuple(features.only(needs) for features in seen), labels)
