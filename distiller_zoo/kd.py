"""KD: Distilling the Knowledge in a Neural Network (Hinton, Vinyals, Dean, arXiv:1503.02531).

L = γ·CE + α·T²·KL( softmax(z_t/T) ‖ softmax(z_s/T) )
"""

import torch.nn.functional as F
from torch import Tensor

from distiller_zoo.method import Batch, Method, Weights
from distiller_zoo.registry import register_method
from distiller_zoo.teacher_mixture import MANY, Weighting, mixture
from models import Features


def kd_loss(logits_s: Tensor, logits_t: Tensor, temperature: float | Tensor) -> Tensor:
    """T² times the mean over the batch of KL(teacher ‖ student) in nats, for two B×K logits."""
    log_s = F.log_softmax(logits_s / temperature, dim=1)
    log_t = F.log_softmax(logits_t / temperature, dim=1)
    return F.kl_div(log_s, log_t, reduction="batchmean", log_target=True) * temperature**2


def mean_kd_loss(
    student: Features, teachers: tuple[Features, ...], temperature: float, weighting: Weighting = "average"
) -> Tensor:
    """The KL term of a run, which α weighs: the mean of `kd_loss` over one or more teachers; a scalar.

    Args:
        weighting: `confidence` takes the loss to the mixture of several teachers instead (see `mixture`).
    """
    if weighting == "confidence" and len(teachers) > 1:
        teachers = (mixture(teachers, weighting),)
    total = student.logits.new_zeros(())
    for teacher in teachers:
        total = total + kd_loss(student.logits, teacher.logits, temperature)
    return total / len(teachers)


@register_method("kd")
class KD(Method):
    """The KL term alone, which any method can add by `-a`."""

    paper = "Hinton et al., Distilling the Knowledge in a Neural Network, 2015"
    weights = Weights(gamma=0.1, alpha=0.9, beta=0)
    max_teachers = MANY
    teacher_order_matters = False  # the loss is a mean over the teachers

    def kl_loss(self, student: Features, teachers: tuple[Features, ...], temperature: float = 4.0) -> Tensor:
        """KD's loss, a scalar: the term that a run computes beside any method and weighs by α."""
        return mean_kd_loss(student, teachers, temperature, self.teacher_weighting)

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        return {}  # no loss for β to weigh: `kl_loss` is weighed by α
