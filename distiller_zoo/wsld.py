"""WSLD: weighted soft labels, Rethinking Soft Labels for KD (Zhou et al., ICLR 2021, arXiv:2102.00650).

Soft labels count the less, the better the student already is on a sample compared with the teacher:

    w = 1 − exp( −CE(z_s, y) / CE(z_t, y) )  without gradient,    L = T²·mean w·H( softmax(z_t/T), softmax(z_s/T) )

H is cross-entropy, not KL: the gradient is the same, the value larger by the weighted entropy of the teacher.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Temperature
from distiller_zoo.registry import register_method
from models import Features

EPS = 1e-7


@torch.no_grad()
def soft_label_weights(logits_s: Tensor, logits_t: Tensor, labels: Tensor) -> Tensor:
    """B weights in [0, 1] from two B×K logits and labels B."""
    ce_s = F.cross_entropy(logits_s, labels, reduction="none")
    ce_t = F.cross_entropy(logits_t, labels, reduction="none")
    return -torch.expm1(-ce_s / (ce_t + EPS))


def weighted_soft_loss(logits_s: Tensor, logits_t: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """T² times the mean of the weighted (B) cross-entropies with the teacher's softened predictions."""
    log_s = (logits_s / temperature).log_softmax(dim=1)
    p_t = (logits_t / temperature).softmax(dim=1)
    return -(weights * (p_t * log_s).sum(dim=1)).mean() * temperature**2


@register_method("wsld")
class WSLD(Method):
    """Soft labels weighted sample by sample; their weight of 2.25 on CIFAR-100 is β.

    Options:
        wsld_T: temperature of both predictions.
    """

    paper = "Zhou et al., Rethinking Soft Labels for Knowledge Distillation, ICLR 2021"
    weights = Weights(gamma=1, alpha=0, beta=2.25)
    reads_labels = True

    def __init__(self, pair: Pair, *, wsld_T: Temperature = 4.0):
        super().__init__(pair)
        self.temperature = wsld_T

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        weights = soft_label_weights(student.logits, teacher.logits, batch.main_labels)
        return weighted_soft_loss(student.logits, teacher.logits, weights, self.temperature)
