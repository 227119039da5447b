"""VID: Variational Information Distillation for Knowledge Transfer (Ahn et al., CVPR 2019, arXiv:1904.05835), eq. 4-6.

    L = Σ_stages mean ½( (μ(f_s) − f_t)² / σ² + log σ² ),   σ²_c = softplus(ρ_c) + ε

μ is a small network of 1×1 convolutions, σ² a learned variance for each channel of the teacher.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.maps import pair_stages, to_common_size
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.registry import register_method
from distiller_zoo.sums import summed
from models import Features

EPS = 1e-5
INITIAL_VARIANCE = 5.0


def gaussian_nll(mean: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    """Mean negative log-likelihood (less its constant) in nats of B×C×H×W targets.

    Args:
        mean: B×C×H×W.
        variance: C.
    """
    variance = variance[None, :, None, None]
    return 0.5 * ((mean - target).square() / variance + variance.log()).mean()


class VariationalRegressor(nn.Module):
    """The negative log-likelihood of teacher maps given student maps, B×C×H×W; the larger is pooled to the smaller."""

    def __init__(self, channels_s: int, channels_t: int):
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(channels_s, channels_t, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels_t, channels_t, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels_t, channels_t, 1, bias=False),
        )
        # The inverse of softplus, so that training starts from the initial variance.
        start = math.log(math.expm1(INITIAL_VARIANCE - EPS))
        self.log_scale = nn.Parameter(torch.full((channels_t,), start))

    def forward(self, f_s: Tensor, f_t: Tensor) -> Tensor:
        f_s, f_t = to_common_size(f_s, f_t)
        return gaussian_nll(self.mean(f_s), f_t, F.softplus(self.log_scale) + EPS)


@register_method("vid")
class VID(Method):
    """A lower bound of the mutual information between the stages of student and teacher."""

    paper = "Ahn et al., Variational Information Distillation, CVPR 2019"
    weights = Weights(gamma=1, alpha=0, beta=1)
    needs = ("stages",)
    reads_teacher_logits = False

    def __init__(self, pair: Pair):
        super().__init__(pair)
        self.pairs = pair_stages(len(pair.student.stages), len(pair.teacher.stages))
        self.regressors = nn.ModuleList(
            VariationalRegressor(pair.student.stages[i][0], pair.teacher.stages[j][0]) for i, j in self.pairs
        )

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        losses = []
        for regressor, (i, j) in zip(self.regressors, self.pairs, strict=True):
            losses.append(regressor(student.stages[i], teacher.stages[j]))
        return summed(losses)
