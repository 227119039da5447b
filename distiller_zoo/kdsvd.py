"""KD-SVD: Self-supervised Knowledge Distillation Using Singular Value Decomposition (Lee, Kim, Song, ECCV 2018,
arXiv:1807.06819), in the form of RepDistiller.

Each map is a matrix M_l of positions × channels; v_l is its first right singular vector (C_l numbers). Of the student's
first four that one is taken which lies closest to the teacher's, up to its sign. What is compared is how
neighbouring stages relate:

    R_l,cd = exp( −(v_l,c − v_{l−1},d)² / 8 ),    L = Σ_l Σ_cd (R^s_l,cd − R^t_l,cd)² / B

So both networks must be equally wide. The published code takes all singular vectors from a library routine, whose
gradient is infinite where singular values meet (dead channels suffice) and which waits for the device. Here the few
that are needed come by orthogonal iteration, v ← orth(MᵀM·v). After 16 steps the first is exact to fp32 for maps
behind a ReLU, and directions in which a map has next to nothing fade to zero. Signs, which a library leaves open,
are such that the teacher's vectors have positive sums.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import RequestError
from distiller_zoo.maps import pair_stages
from distiller_zoo.method import Method, Pair, Weights
from distiller_zoo.registry import register_method

CANDIDATES = 4
STEPS = 16
EPS = 1e-6  # share of a map's energy below which a direction counts as none


def singular_vectors(f: Tensor, count: int, steps: int = STEPS) -> Tensor:
    """B×C×count leading right singular vectors of B×C×H×W maps as matrices of positions × channels."""
    x = F.normalize(f.flatten(1)).view(*f.shape[:2], -1)  # C×P: vectors don't depend on the scale
    channels, positions = x.shape[1:]
    gram = x @ x.mT if channels <= positions else x.mT @ x
    v = _cosines(len(gram[0]), min(count, channels, positions), like=x).expand(len(x), -1, -1)
    for _ in range(steps):
        v = _orthogonal(gram @ v)
    return v if channels <= positions else F.normalize(x @ v, dim=1, eps=math.sqrt(EPS))


def _cosines(size: int, count: int, like: Tensor) -> Tensor:
    """size×count, the first waves of a cosine transform: a start that is orthogonal to nothing in particular."""
    places = (torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) / size
    return torch.cos(math.pi * places[:, None] * torch.arange(count, dtype=like.dtype, device=like.device))


def _orthogonal(v: Tensor) -> Tensor:
    """Columns of B×N×count matrices made orthogonal one after the other, of unit length unless they are tiny."""
    columns: list[Tensor] = []
    for column in v.unbind(dim=2):
        for done in columns:
            column = column - (column * done).sum(dim=1, keepdim=True) * done
        columns.append(F.normalize(column, eps=EPS))
    return torch.stack(columns, dim=2)


def aligned(v_s: Tensor, v_t: Tensor) -> Tensor:
    """B×C: of the columns of v_s (B×C×count) the one closest to v_t (B×C) up to sign, with the sign that fits."""
    cosines = (v_s.mT @ v_t[:, :, None]).squeeze(2)
    best = cosines.abs().argmax(dim=1, keepdim=True)
    sign = torch.where(cosines.gather(1, best) < 0, -1.0, 1.0)
    return sign * v_s.gather(2, best[:, None].expand(-1, v_s.shape[1], -1)).squeeze(2)


def relation(v: Tensor, before: Tensor) -> Tensor:
    """B×C×C' radial basis functions of the entries of two vectors B×C and B×C'."""
    return torch.exp(-(v[:, :, None] - before[:, None, :]).square() / 8)


def kdsvd_loss(maps_s: list[Tensor], maps_t: list[Tensor], steps: int = STEPS) -> Tensor:
    """Squared differences of the relations of neighbouring stages, mean over the batch; equal channels in pairs."""
    total, before = 0.0, None
    for f_s, f_t in zip(maps_s, maps_t, strict=True):
        v_t = singular_vectors(f_t, 1, steps).squeeze(2)
        v_t = torch.where(v_t.sum(dim=1, keepdim=True) < 0, -v_t, v_t)
        v_s = aligned(singular_vectors(f_s, CANDIDATES, steps), v_t)
        if before is not None:
            total = total + (relation(v_s, before[0]) - relation(v_t, before[1])).square().sum() / len(f_s)
        before = v_s, v_t
    return total


@register_method("kdsvd")
class KDSVD(Method):
    """Match the relations between the singular vectors of neighbouring stages."""

    paper = "Lee et al., Self-supervised Knowledge Distillation Using Singular Value Decomposition, ECCV 2018"
    weights = Weights(gamma=1, alpha=0, beta=1)
    needs = ("stages",)

    def __init__(self, pair: Pair):
        super().__init__(pair)
        self.pairs = pair_stages(len(pair.student.stages), len(pair.teacher.stages))
        if len(self.pairs) < 2:
            raise RequestError(
                "kdsvd relates neighbouring stages, and one of the networks has one; choose a deeper one"
            )
        widths_s = [pair.student.stages[i][0] for i, _ in self.pairs]
        widths_t = [pair.teacher.stages[j][0] for _, j in self.pairs]
        if widths_s != widths_t:
            listed_s, listed_t = ("-".join(map(str, widths)) for widths in (widths_s, widths_t))
            raise RequestError(
                f"kdsvd compares channels with channels, so the stages of student ({listed_s}) and teacher "
                f"({listed_t}) must be equally wide; choose a student of the teacher's family and width"
            )

    def loss(self, student, teacher, batch):
        maps_s = [student.stages[i] for i, _ in self.pairs]
        return kdsvd_loss(maps_s, [teacher.stages[j] for _, j in self.pairs])
