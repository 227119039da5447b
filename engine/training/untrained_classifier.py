"""Tells whether a run that reads no labels trains the classifier that its student predicts with."""

import copy
from collections.abc import Sequence

import torch

from common.seeds import derive_seed, isolated_seed
from dataset import UNLABELLED, Batch, DatasetEntry
from engine.training.loss import training_loss
from engine.training.student_run import StudentRun, student_pass
from models import Network

IMAGES = 2  # batch norm needs more than one


def leaves_classifier_untrained(run: StudentRun, teachers: Sequence[Network], entry: DatasetEntry) -> bool:
    """True if the student predicts by its last linear layer, and its loss without labels gives that no gradient.

    Losses on features alone do so. Found by a step on copies of its networks with random pixels.
    """
    student, method = copy.deepcopy((run.student, run.method))
    student.train()
    method.train()
    with isolated_seed(derive_seed(run.plan.seed, "untrained classifier")):
        images = torch.randn(IMAGES * method.views, 3, entry.image_size, entry.image_size)
        labels, index = torch.full((len(images),), UNLABELLED), torch.arange(len(images)) % IMAGES
        batch = Batch(images, labels, index, None, run.plan.recipe.epochs, 0, run.plan.seed, "no")
        with torch.no_grad():
            taught = tuple(teacher.features(images) for teacher in teachers)
        weight = student.last_linear.weight
        predictions = method.predict(method.attach(student.features(images)))
        (of_predictions,) = torch.autograd.grad(predictions.square().sum(), weight, allow_unused=True)
        if of_predictions is None:
            return False
        _, loss = training_loss(run.plan, method, None, student_pass(student, method)(images), taught, batch)
        (of_loss,) = torch.autograd.grad(loss, weight, allow_unused=True)
    return of_loss is None or not of_loss.any()
