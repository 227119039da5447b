"""NST: Like What You Like: Knowledge Distill via Neuron Selectivity Transfer (Huang, Wang, arXiv:1707.01219).

Squared maximum mean discrepancy between the channels of two maps, each channel a unit vector over positions,
with the polynomial kernel k(x, y) = (x·y)²:

    L = Σ_stages  mean_cc' k(t_c, t_c') + mean_cc' k(s_c, s_c') − 2·mean_cc' k(s_c, t_c')

The published code builds a tensor of B×C_s×C_t×(H·W) for each mean. Here the inner products are one matrix product,
or, where there are more channels than positions, Σ_cc' (x_c·y_c')² = ⟨XᵀX, YᵀY⟩ with X, Y of C×(H·W).
"""

import torch.nn.functional as F
from torch import Tensor

from distiller_zoo.maps import pair_stages, to_common_size
from distiller_zoo.method import Batch, Method, Weights
from distiller_zoo.registry import register_method
from distiller_zoo.sums import summed
from models import Features


def mean_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Mean of the kernel over the batch and all pairs of a row of x (B×C×P) and a row of y (B×C'×P)."""
    (_, c_x, positions), c_y = x.shape, y.shape[1]
    if c_x * c_y <= positions * (c_x + c_y):
        return (x @ y.mT).square().mean()
    return ((x.mT @ x) * (y.mT @ y)).sum() / (len(x) * c_x * c_y)


def nst_loss(f_s: Tensor, f_t: Tensor) -> Tensor:
    """MMD² of the channels of two B×C×H×W maps; the larger is pooled to the smaller, channels may differ."""
    s, t = (F.normalize(f.flatten(2), dim=2) for f in to_common_size(f_s, f_t))
    return mean_kernel(t, t) + mean_kernel(s, s) - 2 * mean_kernel(s, t)


@register_method("nst")
class NST(Method):
    """Match where the channels fire, as a distribution over channels, in all stages."""

    paper = "Huang & Wang, Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017"
    weights = Weights(gamma=1, alpha=0, beta=50)
    needs = ("stages",)
    reads_teacher_logits = False

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        losses = []
        for i, j in pair_stages(len(student.stages), len(teacher.stages)):
            losses.append(nst_loss(student.stages[i], teacher.stages[j]))
        return summed(losses)
