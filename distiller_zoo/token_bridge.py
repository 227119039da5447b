"""Token bridge: a plain bridge between the maps of a CNN and the tokens of an MLP. A baseline of this suite's own.

    t = the teacher's map at the student's resolution, C_t × positions
    L = mean over stages and positions of  1 − cos( W z + b, t )   or of the squared difference / C_t

z is the student's token (or pixel) at the position, W one linear layer for each pair of stages. A larger teacher map
is average-pooled to the student's grid, a smaller one interpolated bilinearly. It has no paper and its weight is not
tuned: it is the least that a method for features across families has to beat. Works between any two families.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.maps import pair_stages
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.registry import register_method
from distiller_zoo.sums import summed
from models import Features


def to_size(f: Tensor, size: tuple[int, int]) -> Tensor:
    """A B×C×H×W map at another height and width: averaged where it shrinks, interpolated where it grows."""
    smaller = (min(f.shape[2], size[0]), min(f.shape[3], size[1]))
    if f.shape[2:] != smaller:
        f = F.adaptive_avg_pool2d(f, smaller)
    return f if smaller == size else F.interpolate(f, size, mode="bilinear", align_corners=False)


def bridge_loss(f_s: Tensor, f_t: Tensor, cosine: bool) -> Tensor:
    """Mean distance of B×C×H×W maps over positions: 1 − cosine over the channels, or the mean squared difference."""
    if cosine:
        return 1 - F.cosine_similarity(f_s, f_t).mean()
    return F.mse_loss(f_s, f_t)


@register_method("token_bridge")
class TokenBridge(Method):
    """Match each stage's tokens, projected linearly, with the teacher's map at the same depth.

    Options:
        bridge_distance: compare directions (`cosine`) or values (`mse`).
    """

    paper = "a baseline of this suite, after the hints of Romero et al., FitNets, ICLR 2015"
    weights = Weights(gamma=1, alpha=0, beta=1)
    weights_from = "of this suite; not tuned"
    needs = ("stages",)
    reads_teacher_logits = False

    def __init__(self, pair: Pair, *, bridge_distance: Literal["cosine", "mse"] = "cosine"):
        super().__init__(pair)
        self.cosine = bridge_distance == "cosine"
        self.pairs = pair_stages(len(pair.student.stages), len(pair.teacher.stages))
        self.projections = nn.ModuleList(
            nn.Conv2d(pair.student.stages[i][0], pair.teacher.stages[j][0], 1) for i, j in self.pairs
        )

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        losses = []
        for (i, j), project in zip(self.pairs, self.projections, strict=True):
            f_s, f_t = student.stages[i], teacher.stages[j]
            height, width = f_s.shape[2:]
            losses.append(bridge_loss(project(f_s), to_size(f_t, (height, width)), self.cosine))
        return summed(losses) / len(self.pairs)
