"""The pass of the teachers over the whole training set that some methods fit something on before the first step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.errors import Interrupted
from common.seeds import derive_seed
from dataset import evaluation_batches
from engine.checkpoints.inference_network import InferenceNetwork
from engine.training.evaluation import batch_size_for
from engine.training.group import Group
from engine.training.session import Session
from engine.training.student_run import StudentRun
from models import Features


def training_set_pass(group: Group, teachers: Sequence[InferenceNetwork], session: Session) -> None:
    """Show all training images, as they would be tested, to methods that declare `needs_training_set_pass`.

    One pass of the teachers serves all of them. Of several processes each sees all images; what the first one learned
    is what counts. A run whose method fails leaves the group.

    Raises:
        Interrupted: a stop was requested. A run that has taken no step starts with this pass again.
        Exception: of what the runs share, the images and the teachers' pass.
    """
    runs = [r for r in group.active if r.method.needs_training_set_pass and r.plan.weights.beta and not r.resumed]
    if not runs:
        return
    labels_of_runs = ", ".join(run.plan.label for run in runs)
    session.progress.line(f"{labels_of_runs}: a pass over all training images before the first step")
    needs = {name for run in runs for name in run.method.reads_of_teacher()}
    data, entry, compute = session.data, session.entry, session.compute
    size = batch_size_for(entry.image_size)
    batches = evaluation_batches(data.train_images, data.train_labels, entry, size, compute.device)
    for number, (images, labels) in enumerate(batches):
        if session.stop_requested():
            raise Interrupted
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), compute.autocast():
            features = tuple(teacher.features(images).only(needs, copy=True) for teacher in teachers)
        for run in [run for run in runs if run in group.active]:
            with group.isolated(run):
                _show(run, features, labels, number)
    for run in [run for run in runs if run in group.active]:
        compute.world.broadcast(run.method)


@torch.no_grad()
def _show(run: StudentRun, teachers: tuple[Features, ...], labels: Tensor, number: int) -> None:
    """Show a method batch `number` of the training set."""
    torch.manual_seed(derive_seed(run.plan.seed, "survey", number))
    run.method.fit_on_training_set(tuple(map(run.method.declared_fields_of, teachers)), labels)
