"""CTKD: Curriculum Temperature for Knowledge Distillation (Li et al., AAAI 2023, arXiv:2211.16231).

KD whose temperature is learned against the student: one number θ is trained to make the loss larger (its gradient is
reversed), by a strength λ that grows with the epochs, from easy to hard:

    T = T_start + T_range·sigmoid(θ),    L = T²·KL( softmax(z_t/T) ‖ softmax(z_s/T) )
    ∂L/∂θ is multiplied by −λ,    λ = (1 − cos(π·min(epoch, loops)/loops)) / 2

θ starts at 1, so T begins at 15.6 and stays between 1 and 21. This is the global form, the one of the published code;
the paper's second form, a temperature for each sample from a small network, is not here. KD's weights are γ and β;
α is 0, as the KL at a fixed temperature has no part in it.
"""

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from distiller_zoo.kd import kd_loss
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Epochs, Range, Temperature
from distiller_zoo.registry import register_method
from models import Features


def reversed_gradient(x: Tensor, strength: float) -> Tensor:
    """x itself, to the bit; its gradient is multiplied by −strength."""
    return x.detach() - strength * (x - x.detach())


def adversary_strength(epoch: int, loops: int) -> float:
    """λ in an epoch (from 1): along a cosine from 0 to 1, which it reaches in epoch `loops`."""
    return (1 - math.cos(math.pi * min(epoch, loops) / loops)) / 2


@register_method("ctkd")
class CTKD(Method):
    """KD at a temperature that learns to make it harder.

    Options:
        ctkd_T_start: the least temperature.
        ctkd_T_range: how far the largest temperature lies above the least.
        ctkd_loops: epochs until the temperature learns at full strength.
    """

    paper = "Li et al., Curriculum Temperature for Knowledge Distillation, AAAI 2023"
    weights = Weights(gamma=0.1, alpha=0, beta=0.9)

    def __init__(
        self,
        pair: Pair,
        *,
        ctkd_T_start: Temperature = 1.0,
        ctkd_T_range: Temperature = 20.0,
        ctkd_loops: Annotated[Epochs, Range(1)] = 10,
    ):
        super().__init__(pair)
        self.start, self.range, self.loops = ctkd_T_start, ctkd_T_range, ctkd_loops
        self.theta = nn.Parameter(torch.tensor(1.0))

    def temperature(self, epoch: int) -> Tensor:
        """T, with the gradient that an epoch (from 1) gives it."""
        theta = reversed_gradient(self.theta, adversary_strength(epoch, self.loops))
        return self.start + self.range * theta.sigmoid()

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return kd_loss(student.logits, teacher.logits, self.temperature(batch.epoch))
