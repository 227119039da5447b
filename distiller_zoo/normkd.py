"""NormKD: Normalized Logits for Knowledge Distillation (Chi et al., 2023, arXiv:2308.00520).

KD with a temperature for each sample and network, in proportion to the standard deviation σ of its logits:

    T_s = τ·σ(z_s),    T_t = τ·σ(z_t),    L = mean T_t²·KL( softmax(z_t/T_t) ‖ softmax(z_s/T_s) )

The gradient goes through T_s too. KD's weights are γ and β; α is 0, as the KL at a fixed temperature has no part in it.
"""

import torch
from torch import Tensor

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Temperature
from distiller_zoo.predictions import kl_of_each
from distiller_zoo.registry import register_method
from models import Features

EPS = 1e-7


def temperatures(logits: Tensor, scale: float) -> Tensor:
    """B×1: scale times the standard deviation (unbiased) of each row of B×K logits, or scale for a constant row.

    Classifiers of MLPs start at zero: at a temperature of EPS the first gradient would be millions of times too large.
    """
    variance = logits.var(dim=1, keepdim=True)
    return scale * torch.where(variance > 0, variance.clamp(min=EPS**2).sqrt(), 1.0)


def normkd_loss(logits_s: Tensor, logits_t: Tensor, scale: float) -> Tensor:
    """Mean over the batch of the divergence at each sample's temperatures, for two B×K logits."""
    t_s, t_t = temperatures(logits_s, scale), temperatures(logits_t, scale)
    each = kl_of_each((logits_s / t_s).log_softmax(dim=1), (logits_t / t_t).log_softmax(dim=1))
    return (t_t.squeeze(1).square() * each).mean()


@register_method("normkd")
class NormKD(Method):
    """KD at temperatures that suit each sample's logits.

    Options:
        normkd_T: τ, temperature in standard deviations of the logits.
    """

    paper = "Chi et al., NormKD: Normalized Logits for Knowledge Distillation, 2023"
    weights = Weights(gamma=0.1, alpha=0, beta=0.9)

    def __init__(self, pair: Pair, *, normkd_T: Temperature = 2.0):
        super().__init__(pair)
        self.scale = normkd_T

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return normkd_loss(student.logits, teacher.logits, self.scale)
