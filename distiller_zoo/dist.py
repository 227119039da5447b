"""DIST: Knowledge Distillation from A Stronger Teacher (Huang et al., NeurIPS 2022, arXiv:2205.10536).

The student need not repeat the teacher's predictions P = softmax(z/τ) (B×K), only be correlated with them: each
sample's over the classes (inter), each class's over the batch (intra):

    L = τ²·( β·(1 − mean_i ρ(P_s[i,:], P_t[i,:])) + γ·(1 − mean_k ρ(P_s[:,k], P_t[:,k])) ),    ρ: Pearson's correlation

The factor τ² is the code's. β = γ = 2, and τ = 4 on CIFAR-100.
"""

import torch
from torch import Tensor

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import PartWeight, Temperature
from distiller_zoo.registry import register_method
from models import Features

EPS = 1e-8


def correlation_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 − the mean of Pearson's correlation of the rows of two N×M matrices; a constant row counts as uncorrelated."""
    varied = (a.amax(dim=1) > a.amin(dim=1)) & (b.amax(dim=1) > b.amin(dim=1))
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    scale = a.norm(dim=1) * b.norm(dim=1) + EPS
    # Classifiers of MLPs start at zero: divided by EPS, the first gradient would be a hundred million times too large.
    return 1 - ((a * b).sum(dim=1) / torch.where(varied, scale, 1.0)).mean()


def inter_loss(logits_s: Tensor, logits_t: Tensor, temperature: float) -> Tensor:
    """τ² times 1 − the mean correlation of each sample's predictions over the classes, for two B×K logits."""
    p_s, p_t = (logits_s / temperature).softmax(dim=1), (logits_t / temperature).softmax(dim=1)
    return correlation_loss(p_s, p_t) * temperature**2


def intra_loss(logits_s: Tensor, logits_t: Tensor, temperature: float) -> Tensor:
    """τ² times 1 − the mean correlation of each class's predictions over the batch, for two B×K logits."""
    p_s, p_t = (logits_s / temperature).softmax(dim=1), (logits_t / temperature).softmax(dim=1)
    return correlation_loss(p_s.T, p_t.T) * temperature**2


@register_method("dist")
class DIST(Method):
    """Correlations of predictions within samples and within classes.

    Options:
        dist_inter: β, weight of the correlation over the classes of each sample.
        dist_intra: γ, weight of the correlation over the batch of each class.
        dist_T: τ, temperature of both predictions.
    """

    paper = "Huang et al., Knowledge Distillation from A Stronger Teacher, NeurIPS 2022"
    weights = Weights(gamma=1, alpha=0, beta=1)

    def __init__(
        self, pair: Pair, *, dist_inter: PartWeight = 2.0, dist_intra: PartWeight = 2.0, dist_T: Temperature = 4.0
    ):
        super().__init__(pair)
        self.inter_weight, self.intra_weight, self.temperature = dist_inter, dist_intra, dist_T

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        read = (student.logits, teachers[0].logits, self.temperature)
        return {
            "dist_inter": self.inter_weight * inter_loss(*read),
            "dist_intra": self.intra_weight * intra_loss(*read),
        }
