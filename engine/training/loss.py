"""The loss of a training step: γ·CE + α·KL_T + β·(the method's own losses), all in float32."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class LabelTerms:
    """What a run's loss on labels has beside the cross-entropy.

    Attributes:
        retrospection: what the run learns from its own past predictions; None for nothing.
        class_weights: K weights of the classes in the cross-entropy; None for equal ones.
    """

    retrospection: Retrospection | None = None
    class_weights: Tensor | None = None


def training_loss(
    plan: RunPlan,
    method: Method,
    terms: LabelTerms | None,
    student: Features,
    teachers: tuple[Features, ...],
    batch: Batch,
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the named losses, unweighted, and their weighted sum; scalars.

    Raises:
        RunError: the method's own losses are no scalars, or have names that the run itself records.
    """
    weights, terms = plan.weights, terms or LabelTerms()
    ce = cross_entropy(student.logits, batch, plan.recipe.label_smoothing, terms.class_weights)
    losses = {} if batch.labelled == "no" else {"ce": ce}
    base = ce
    if terms.retrospection is not None:
        losses["retrospection"], base = terms.retrospection(ce, student.logits, batch)
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


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """The weights N / (K·n) of K classes, float32, where n of N images are of a class; 0 for a class without any.

    Args:
        labels: int64, of the training set; those below 0 are of images without a label.
        classes: their number, K.
    """
    counts = torch.bincount(labels[labels >= 0], minlength=classes)
    return torch.where(counts > 0, counts.sum() / (classes * counts.clamp(min=1)), 0.0)


def cross_entropy(logits: Tensor, batch: Batch, smoothing: float, class_weights: Tensor | None = None) -> Tensor:
    """The cross-entropy with labels that are mixed and smoothed: the mean over the images that have one, else 0.

    Of an image that is mixed of one with and one without a label, the share of the former counts. With class weights it
    is the weighted mean, of mixed images the mean of the weighted losses, as torch defines it.
    """
    target = batch.labels if batch.targets is None else batch.targets
    if batch.labelled == "all":
        return F.cross_entropy(logits, target, class_weights, label_smoothing=smoothing)
    images = batch.labelled_images
    if batch.targets is None:
        total = F.cross_entropy(
            logits, target, class_weights, ignore_index=UNLABELLED, reduction="sum", label_smoothing=smoothing
        )
        if class_weights is not None:
            images = class_weights[target.clamp(min=0)].where(target >= 0, 0.0).sum()
    else:
        classes = target.shape[1]
        smooth = (1 - smoothing) * target + smoothing / classes * target.sum(dim=1, keepdim=True)
        weighted = smooth if class_weights is None else smooth * class_weights
        total = -(weighted * logits.log_softmax(dim=1)).sum()
    return total / images.clamp(min=LEAST_SHARE)


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
