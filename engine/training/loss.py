"""The loss of a training step: γ·CE + α·KL_T + β·(the method's own losses), all in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import RunError
from dataset import Batch
from distiller_zoo import Method
from distiller_zoo.kd import mean_kd_loss
from distiller_zoo.predictions import with_standardised_logits
from engine.protocol.plan import RunPlan
from engine.training.retrospection import Retrospection
from models import Features

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
    target = batch.labels if batch.targets is None else batch.targets
    ce = F.cross_entropy(student.logits, target, label_smoothing=plan.recipe.label_smoothing)
    losses = {"ce": ce}
    base = ce
    if retrospection is not None:
        losses["retrospection"], base = retrospection(ce, student.logits, batch)
    total = weights.gamma * base
    if weights.alpha:
        losses["kl"] = kl_to_teachers(plan, student, teachers)
        total = total + weights.alpha * losses["kl"]
    if weights.beta:
        own = method.losses(*method.loss_inputs(student, teachers), batch)
        check_own_losses(method, own)
        losses |= own
        total = total + weights.beta * method.total(own, total)
    return losses, total


def initial_loss(
    method: Method, student: Features | None, teachers: tuple[Features, ...], batch: Batch
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the losses of a method's initial stage by name, and their sum; it has no others.

    Args:
        student: None unless the stage trains the student.

    Raises:
        RunError: as `training_loss`.
    """
    losses = method.initial_losses(*method.declared_inputs(student, teachers), batch)
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
