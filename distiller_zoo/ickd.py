"""ICKD-C: Exploring Inter-Channel Correlation for Diversity-Preserved Knowledge Distillation (Liu et al., ICCV 2021).

    G = rows of F·Fᵀ, each of unit length (F: C×HW of one sample),   L = ‖G_t − G_s‖²_F / C,  mean over the batch

F is the last stage; the student's is brought to the teacher's C channels by a 1×1 convolution and batch norm.
G is C×C for every sample: with 2,048 channels a gigabyte for each network. Rows of unit length have
‖g_t − g_s‖² = 2 − 2⟨g_t, g_s⟩, and ⟨g_t, g_s⟩ follows from HW×HW products, so no G is ever built.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.registry import register_method
from models import Features

EPS = 1e-24  # of a squared length


def channel_correlation_loss(f_s: Tensor, f_t: Tensor) -> Tensor:
    """Mean over samples and channels of ‖g_t − g_s‖², for maps B×C×H×W; heights and widths may differ."""
    # Each sample is brought to length 1, which changes no g: the fourth powers below stay within float32.
    s, t = (F.normalize(f.flatten(1)).unflatten(1, (f.shape[1], -1)) for f in (f_s, f_t))  # B×C×P

    def products(a: Tensor, b: Tensor) -> Tensor:
        """B×C inner products of the rows of a·aᵀ with those of b·bᵀ."""
        return ((a @ (a.transpose(1, 2) @ b)) * b).sum(dim=2)

    squares_s, squares_t = products(s, s), products(t, t)
    norms = squares_s.clamp(min=EPS).sqrt() * squares_t.clamp(min=EPS).sqrt()
    # A row of zeros (a dead channel) stays one.
    ones = [squares / squares.clamp(min=EPS) for squares in (squares_s, squares_t)]
    return (ones[0] + ones[1] - 2 * products(s, t) / norms).mean()


@register_method("ickd")
class ICKD(Method):
    """Correlations between the channels of the last stage."""

    paper = "Liu et al., Exploring Inter-Channel Correlation for Diversity-Preserved KD, ICCV 2021"
    weights = Weights(gamma=1, alpha=0, beta=2.5)
    needs = ("stages",)
    reads_teacher_logits = False

    def __init__(self, pair: Pair):
        super().__init__(pair)
        channels_s, channels_t = pair.student.stages[-1][0], pair.teacher.stages[-1][0]
        self.embed = nn.Sequential(nn.Conv2d(channels_s, channels_t, 1, bias=False), nn.BatchNorm2d(channels_t))

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return channel_correlation_loss(self.embed(student.stages[-1]), teacher.stages[-1])
