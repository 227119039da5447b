"""KD: Distilling the Knowledge in a Neural Network (Hinton, Vinyals, Dean, arXiv:1503.02531).

L = γ·CE + α·T²·KL( softmax(z_t/T) ‖ softmax(z_s/T) )
"""

import torch.nn.functional as F
from torch import Tensor

from distiller_zoo.method import Method, Weights
from distiller_zoo.registry import register_method
from distiller_zoo.teacher_mixture import MANY


def kd_loss(logits_s: Tensor, logits_t: Tensor, temperature: float) -> Tensor:
    """T² times the mean over the batch of KL(teacher ‖ student), for two B×K logits."""
    log_s = F.log_softmax(logits_s / temperature, dim=1)
    log_t = F.log_softmax(logits_t / temperature, dim=1)
    return F.kl_div(log_s, log_t, reduction="batchmean", log_target=True) * temperature**2


@register_method("kd")
class KD(Method):
    """All of it is the KL term, which any method can add by `-a`; so there is no loss of its own."""

    paper = "Hinton et al., Distilling the Knowledge in a Neural Network, 2015"
    weights = Weights(gamma=0.1, alpha=0.9, beta=0)
    max_teachers = MANY

    def losses(self, student, teachers, batch):
        return {}
