"""AT: Paying More Attention to Attention (Zagoruyko, Komodakis, ICLR 2017, arXiv:1612.03928), eq. 2.

A(f) = vec(mean_c f²) / ‖·‖₂,    L = Σ_stages mean( (A(f_s) − A(f_t))² )
"""

import torch.nn.functional as F
from torch import Tensor

from distiller_zoo.maps import pair_stages, to_common_size
from distiller_zoo.method import Batch, Method, Weights
from distiller_zoo.registry import register_method
from distiller_zoo.sums import summed
from models import Features


def attention_map(f: Tensor) -> Tensor:
    """B×(H·W) attention A of B×C×H×W maps, of unit length per sample."""
    return F.normalize(f.square().mean(dim=1).flatten(1))


def attention_loss(f_s: Tensor, f_t: Tensor) -> Tensor:
    """Mean squared difference of the attention of two B×C×H×W maps; the larger is pooled to the smaller."""
    f_s, f_t = to_common_size(f_s, f_t)
    return F.mse_loss(attention_map(f_s), attention_map(f_t))


@register_method("attention", aliases=("at",))
class Attention(Method):
    """Attention transfer over all stages."""

    paper = "Zagoruyko & Komodakis, Paying More Attention to Attention, ICLR 2017"
    weights = Weights(gamma=1, alpha=0, beta=1000)
    needs = ("stages",)
    reads_teacher_logits = False

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        losses = []
        for i, j in pair_stages(len(student.stages), len(teacher.stages)):
            losses.append(attention_loss(student.stages[i], teacher.stages[j]))
        return summed(losses)
