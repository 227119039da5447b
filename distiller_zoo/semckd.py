"""SemCKD: Cross-Layer Distillation with Semantic Calibration (Chen et al., AAAI 2021, arXiv:2012.03236).

Every stage of the student learns from all stages of the teacher, each sample with weights of its own:

    q_s = n(MLP(A_s)),  k_t = n(MLP(A_t)),   A = F·Fᵀ, rows of the similarities of a batch (F: B×CHW), n: unit length
    w_st = softmax_t( q_s·k_t / τ )
    L = 1/(B·S) Σ_bst w_bst · mean_chw( (P_st(f_s) − f_t)² )

P_st is 1×1, 3×3 and 1×1 convolutions; the larger map is pooled to the smaller. The MLPs read rows of similarities, so
their width is the batch size, and the published code skips smaller batches. Here a batch is read in groups of that
size, the last filled up with zeros: for full batches of 64 that is the published loss. KL is added to it (α = 1).

The published β = 400 was for wide teachers (resnet32x4 and others). With resnet56, whose activations are larger, it
diverges at a learning rate of 0.05; `-b 100` does not.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from distiller_zoo.maps import bottleneck, to_common_size
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Range, Temperature
from distiller_zoo.registry import register_method
from models import Features

REDUCTION = 4


def group_similarities(f: Tensor, group: int) -> Tensor:
    """B×group inner products of each sample of B×... features with those of its group, zero where there is none."""
    flat = f.flatten(1)
    groups = -(-len(flat) // group)
    parts = F.pad(flat, (0, 0, 0, groups * group - len(flat))).view(groups, group, -1)
    return (parts @ parts.mT).flatten(0, 1)[: len(flat)]


def calibrated_loss(distances: Tensor, queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Mean over the batch and S student stages of the attention-weighted distances to T teacher stages.

    Args:
        distances: B×S×T.
        queries: B×S×D of unit length.
        keys: B×T×D of unit length.
    """
    attention = (queries @ keys.mT / temperature).softmax(dim=2)
    return (attention * distances).sum() / (distances.shape[0] * distances.shape[1])


class SimilarityEmbed(nn.Sequential):
    """B×group rows of similarities to unit vectors B×group/4."""

    def __init__(self, group: int):
        width = group // REDUCTION
        super().__init__(nn.Linear(group, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, similarities: Tensor) -> Tensor:
        return F.normalize(super().forward(similarities))


@register_method("semckd")
class SemCKD(Method):
    """Match each stage of the student with all stages of the teacher, by weights that are learned.

    Options:
        semckd_group: samples among which similarities are taken; the published batch size.
        semckd_temperature: τ, temperature of the attention.
    """

    paper = "Chen et al., Cross-Layer Distillation with Semantic Calibration, AAAI 2021"
    weights = Weights(gamma=1, alpha=1, beta=400)
    needs = ("stages",)
    reads_teacher_logits = False

    def __init__(
        self, pair: Pair, *, semckd_group: Annotated[int, Range(1, 65_536)] = 64, semckd_temperature: Temperature = 1.0
    ):
        super().__init__(pair)
        if semckd_group < REDUCTION:
            raise RequestError(f"--semckd_group is {semckd_group}; it must be {REDUCTION} or more, best the batch size")
        self.group, self.temperature = semckd_group, semckd_temperature
        shapes_s, shapes_t = pair.student.stages, pair.teacher.stages
        self.query = nn.ModuleList(SimilarityEmbed(semckd_group) for _ in shapes_s)
        self.key = nn.ModuleList(SimilarityEmbed(semckd_group) for _ in shapes_t)
        self._projections = tuple(nn.ModuleList(bottleneck(s[0], 2 * t[0], t[0]) for t in shapes_t) for s in shapes_s)
        self.projections = nn.ModuleList(self._projections)

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        queries, keys = self._embed(self.query, student.stages), self._embed(self.key, teacher.stages)
        distances = [
            torch.stack([_distance(p, f_s, f_t) for p, f_t in zip(row, teacher.stages, strict=True)], dim=1)
            for row, f_s in zip(self._projections, student.stages, strict=True)
        ]
        return calibrated_loss(torch.stack(distances, dim=1), queries, keys, self.temperature)

    def _embed(self, layers: nn.ModuleList, maps: tuple[Tensor, ...]) -> Tensor:
        """B×stages×D embeddings of the similarities in each stage."""
        rows = [layer(group_similarities(f, self.group)) for layer, f in zip(layers, maps, strict=True)]
        return torch.stack(rows, dim=1)


def _distance(projection: nn.Module, f_s: Tensor, f_t: Tensor) -> Tensor:
    """B mean squared differences of two maps."""
    f_s, f_t = to_common_size(f_s, f_t)
    return (projection(f_s) - f_t).square().flatten(1).mean(dim=1)
