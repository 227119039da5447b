"""The loss of a training step: γ·CE + α·KL_T + β·(the method's own losses), all in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import RunError
from dataset import Batch
from distiller_zoo import Method
from distiller_zoo.kd import kd_loss
from distiller_zoo.predictions import with_standardised_logits
from distiller_zoo.teacher_mixture import mixture
from engine.protocol.plan import RunPlan
from engine.training.retrospection import Retrospection
from models import Features

RECORDED = ("loss", "ce", "kl", "retrospection", "top1")  # by the run itself, beside a method's own losses


def objective(
    plan: RunPlan,
    method: Method,
    retrospection: Retrospection | None,
    student: Features,
    teachers: tuple[Features, ...],
    batch: Batch,
) -> tuple[dict[str, Tensor], Tensor]:
    """The named losses, unweighted, and their weighted sum; scalars."""
    weights = plan.weights
    target = batch.labels if batch.targets is None else batch.targets
    ce = F.cross_entropy(student.logits, target, label_smoothing=plan.recipe.label_smoothing)
    losses = {"ce": ce}
    base = ce
    if retrospection is not None:
        losses["retrospection"], base = retrospection(ce, student.logits, batch)
    total = weights.gamma * base
    if weights.alpha:
        if plan.logit_standardization:
            kl = _kl(with_standardised_logits(student), tuple(map(with_standardised_logits, teachers)), plan)
        else:
            kl = _kl(student, teachers, plan)
        losses["kl"] = kl
        total = total + weights.alpha * kl
    if weights.beta:
        own = _checked(method, method.own_losses(student, teachers, batch))
        losses |= own
        total = total + weights.beta * method.total(own, total)
    return losses, total


def _checked(method: Method, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """A method's own losses, if they are what the run can weigh and record."""
    for name, loss in losses.items():
        if name in RECORDED:
            raise RunError(f"{method.name}: the run itself records {name!r}; begin a loss's name with the method's")
        if loss.ndim:
            raise RunError(f"{method.name}: the loss {name!r} has shape {tuple(loss.shape)}; return a scalar, its mean")
    return losses


def _kl(student: Features, teachers: tuple[Features, ...], plan: RunPlan) -> Tensor:
    """The mean of the KL to each teacher, or the KL to their mixture by confidence."""
    if plan.teacher_weighting == "confidence" and len(teachers) > 1:
        teachers = (mixture(teachers, "confidence"),)
    return sum(kd_loss(student.logits, teacher.logits, plan.kd_T) for teacher in teachers) / len(teachers)


def initial_objective(
    method: Method, student: Features | None, teachers: tuple[Features, ...], batch: Batch
) -> tuple[dict[str, Tensor], Tensor]:
    """The same for a method's initial stage, which has no loss but its own."""
    losses = _checked(method, method.initial_losses(student, teachers, batch))
    return losses, torch.stack(list(losses.values())).sum()
