"""The loss of a training step: γ·CE + α·KL_T + β·(the method's own losses), all in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import RunError
from dataset import UNLABELLED, Batch, WithoutLabels
from distiller_zoo import Method
from distiller_zoo.kd import mean_kd_loss
from distiller_zoo.predictions import with_standardised_logits
from engine.protocol.plan import RunPlan
from engine.training.retrospection import Retrospection
from models import Features

LEAST_SHARE = 1e-6  # of one image: what is divided by where no image has a label
RECORDED = ("loss", "ce", "kl", "retrospection", "top1")  # by the run itself, beside a method's own losses


def training_loss(
    plan: RunPlan,
    method: Method,
    retrospection: Retrospection | None,
    student: Features,
    teachers: tuple[Features, ...],
    batch: Batch,
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the named losses, unweighted, and their weighted sum; scalars.

    Raises:
        RunError: the method's own losses are no scalars, or have names that the run itself records.
    """
    weights = plan.weights
    ce = cross_entropy(student.logits, batch, plan.recipe.label_smoothing)
    losses = {} if batch.labelled == "no" else {"ce": ce}
    base = ce
    if retrospection is not None:
        losses["retrospection"], base = retrospection(ce, student.logits, batch)
    total = weights.gamma * base
    if weights.alpha:
        losses["kl"] = kl_to_teachers(plan, student, teachers)
        total = total + weights.alpha * losses["kl"]
    if weights.beta:
        own = method.losses(*method.loss_inputs(student, teachers), batch_for(method, batch))
        check_own_losses(method, own)
        losses |= own
        total = total + weights.beta * method.total(own, total)
    return losses, total


def cross_entropy(logits: Tensor, batch: Batch, smoothing: float) -> Tensor:
    """The cross-entropy with labels that are mixed and smoothed: the mean over the images that have one, else 0.

    Of an image that is mixed of one with and one without a label, the share of the former counts.
    """
    target = batch.labels if batch.targets is None else batch.targets
    if batch.labelled == "all":
        return F.cross_entropy(logits, target, label_smoothing=smoothing)
    if batch.targets is None:
        total = F.cross_entropy(logits, target, ignore_index=UNLABELLED, reduction="sum", label_smoothing=smoothing)
    else:
        classes = target.shape[1]
        smooth = (1 - smoothing) * target + smoothing / classes * target.sum(dim=1, keepdim=True)
        total = -(smooth * logits.log_softmax(dim=1)).sum()
    return total / batch.labelled_images.clamp(min=LEAST_SHARE)


def batch_for(method: Method, batch: Batch) -> Batch | WithoutLabels:
    """The batch as a method may read it: without labels where images of the training set have none."""
    return batch if batch.labelled == "all" else WithoutLabels(method.name, batch)


def initial_loss(
    method: Method, student: Features | None, teachers: tuple[Features, ...], batch: Batch
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the losses of a method's initial stage by name, and their sum; it has no others.

    Args:
        student: None unless the stage trains the student.

    Raises:
        RunError: as `training_loss`.
    """
    losses = method.initial_losses(*method.declared_inputs(student, teachers), batch_for(method, batch))
    check_own_losses(method, losses)
    return losses, torch.stack(list(losses.values())).sum()


def check_own_losses(method: Method, losses: dict[str, Tensor]) -> None:
    """Raise RunError unless a method's own losses are scalars whose names the run does not record itself."""
    for name, loss in losses.items():
        if name in RECORDED:
            raise RunError(f"{method.name}: the run itself records {name!r}; begin a loss's name with the method's")
        if loss.ndim:
            raise RunError(f"{method.name}: the loss {name!r} has shape {tuple(loss.shape)}; return a scalar, its mean")


def kl_to_teachers(plan: RunPlan, student: Features, teachers: tuple[Features, ...]) -> Tensor:
    """The KL divergence at `kd_T`, times its square: the mean over the teachers, or to their mixture by confidence."""
    if plan.logit_standardization:
        student = with_standardised_logits(student)
        teachers = tuple(map(with_standardised_logits, teachers))
    return mean_kd_loss(student, teachers, plan.kd_T, plan.teacher_weighting)
