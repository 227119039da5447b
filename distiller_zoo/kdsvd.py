"""KD-SVD: Self-supervised Knowledge Distillation Using Singular Value Decomposition (Lee, Kim, Song, ECCV 2018,
arXiv:1807.06819), in the form of RepDistiller.

Each map is a matrix M_l of positions × channels; v_l is its first right singular vector (C_l numbers). Of the student's
first four that one is taken which lies closest to the teacher's, up to its sign. What is compared is how
neighbouring stages relate:

    R_l,cd = exp( −(v_l,c − v_{l−1},d)² / 8 ),    L = Σ_l Σ_cd (R^s_l,cd − R^t_l,cd)² / B

So both networks must be equally wide. Signs, which a decomposition leaves open, are such that the teacher's vectors
have positive sums. How the vectors are found is in singular_vectors.py.
"""

from itertools import pairwise

import torch
from torch import Tensor

from common.errors import RequestError
from distiller_zoo.maps import pair_stages
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.registry import register_method
from distiller_zoo.singular_vectors import STEPS, singular_vectors
from distiller_zoo.sums import summed
from models import Features

CANDIDATES = 4


def aligned(v_s: Tensor, v_t: Tensor) -> Tensor:
    """B×C: of the columns of v_s (B×C×count) the one closest to v_t (B×C) up to sign, with the sign that fits."""
    cosines = (v_s.mT @ v_t[:, :, None]).squeeze(2)
    best = cosines.abs().argmax(dim=1, keepdim=True)
    sign = torch.where(cosines.gather(1, best) < 0, -1.0, 1.0)
    return sign * v_s.gather(2, best[:, None].expand(-1, v_s.shape[1], -1)).squeeze(2)


def relation(v: Tensor, before: Tensor) -> Tensor:
    """B×C×C' radial basis functions R of the entries of two vectors, B×C and B×C' (of the stage before)."""
    return torch.exp(-(v[:, :, None] - before[:, None, :]).square() / 8)


def kdsvd_loss(maps_s: list[Tensor], maps_t: list[Tensor], steps: int = STEPS) -> Tensor:
    """Squared differences of the relations of neighbouring stages, mean over the batch.

    Args:
        maps_s, maps_t: B×C×H×W of two or more stages; equal channels in each pair.
        steps: of the iteration that finds the singular vectors.
    """
    vectors = []
    for f_s, f_t in zip(maps_s, maps_t, strict=True):
        v_t = singular_vectors(f_t, 1, steps).squeeze(2)
        v_t = torch.where(v_t.sum(dim=1, keepdim=True) < 0, -v_t, v_t)
        vectors.append((aligned(singular_vectors(f_s, CANDIDATES, steps), v_t), v_t))
    return summed(
        (relation(v_s, before_s) - relation(v_t, before_t)).square().sum() / len(v_s)
        for (before_s, before_t), (v_s, v_t) in pairwise(vectors)
    )


@register_method("kdsvd")
class KDSVD(Method):
    """Match the relations between the singular vectors of neighbouring stages."""

    paper = "Lee et al., Self-supervised Knowledge Distillation Using Singular Value Decomposition, ECCV 2018"
    weights = Weights(gamma=1, alpha=0, beta=1)
    refuses = "pairs of unlike widths: stages must have the same channels in both; networks of one stage"
    needs = ("stages",)
    reads_teacher_logits = False

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

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        maps_s = [student.stages[i] for i, _ in self.pairs]
        return kdsvd_loss(maps_s, [teacher.stages[j] for _, j in self.pairs])
