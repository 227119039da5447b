"""Whether a run can train on a batch of one image: batch norm of one value a channel cannot."""

import copy
from collections.abc import Sequence

import torch

from common.messages import words_of
from common.seeds import derive_seed, isolated_seed
from dataset import Batch, DatasetEntry
from engine.training.loss import initial_loss, training_loss
from engine.training.student_run import StudentRun, student_pass
from models import Network

# Of torch's message for a batch norm in training that sees one value of each channel.
ONE_VALUE = "more than 1 value per channel"


def why_not_on_one_image(run: StudentRun, teachers: Sequence[Network], entry: DatasetEntry) -> str:
    """The reason why a run cannot take a step on one image, after "on which"; "" if it can.

    Found by a step on copies of its networks with random pixels; the run is not changed.
    """
    student, method = copy.deepcopy((run.student, run.method))
    student.train(run.plan.backbone is None)  # the frozen epochs of a fine-tuning end
    method.train()
    with isolated_seed(derive_seed(run.plan.seed, "one image")):
        images = torch.randn(run.method.views, 3, entry.image_size, entry.image_size)
        all_labels = torch.arange(entry.train_size) % entry.num_classes
        labels, index = all_labels[:1].repeat(len(images)), torch.zeros(len(images), dtype=torch.int64)
        batch = Batch(images, labels, index, None, 1, 0, run.plan.seed)
        try:
            with torch.no_grad():
                student.features(images)
        except ValueError as error:
            if ONE_VALUE not in str(error):
                raise
            return f"batch normalisation of {run.plan.model} cannot train"
        try:
            with torch.no_grad():
                features = tuple(teacher.features(images) for teacher in teachers)
                method.prepare(all_labels)
                if method.needs_training_set_pass:
                    method.fit_on_training_set(features, labels)
            losses = [training_loss(run.plan, method, None, student_pass(student, method)(images), features, batch)[1]]
            if run.initial:
                seen = student_pass(student, method)(images) if method.initial_trains_student else None
                losses.append(initial_loss(method, seen, features, batch)[1])
            loss = torch.stack(losses).sum()
            if loss.requires_grad:
                loss.backward()
        except Exception as error:  # whatever it is, the run would meet it too
            if ONE_VALUE in str(error):
                return f"batch normalisation of {run.plan.method} cannot train"
            return f"{run.plan.method} cannot train ({words_of(error)})"
    gradients = [p.grad for module in (student, method) for p in module.parameters() if p.grad is not None]
    if not all(value.isfinite().all() for value in (loss, *gradients)):
        return f"the loss of {run.plan.method} is not finite"
    return ""
