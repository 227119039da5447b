"""OFD: A Comprehensive Overhaul of Feature Distillation (Heo et al., ICCV 2019, arXiv:1904.01866).

Before the ReLU, with a margin m_c < 0 for each channel of the teacher and a connector r (1×1 convolution, batch norm):

    u = max(t, m),    d(s, u) = (s − u)² where s > u or u > 0, else 0        both below zero and s below u: no loss
    L = Σ_stages 2^(l−L) · Σ_chw d(r(s), u) / B,   l = 1..L

The margin is the mean of the channel's negative values, E[x | x < 0]. It follows from the last batch norm of the stage,
x ~ N(β, γ²), as published. For teachers whose stages don't end in one (ShuffleNets, MLPs) it is the mean over
the values seen in training so far, the paper's other way. The published factor of 1/1000 is the β of the run.
"""

import math

import torch
from torch import Tensor, nn

from distiller_zoo.maps import pair_stages, to_common_size
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.registry import register_method
from distiller_zoo.sums import summed
from models import Features, Network

RARE = 0.001  # where negative values are rarer, the margin is -3 standard deviations


def expected_negative(mean: Tensor, std: Tensor) -> Tensor:
    """E[x | x < 0] of normal distributions, in double precision; mean and std of one shape."""
    mean, std = mean.double(), std.double().abs().clamp(min=1e-12)
    share = torch.special.ndtr(-mean / std)
    density = torch.exp(-((mean / std).square()) / 2) / math.sqrt(2 * math.pi)
    return torch.where(share > RARE, mean - std * density / share.clamp(min=RARE), -3 * std)


def partial_distance(s: Tensor, t: Tensor, margin: Tensor) -> Tensor:
    """Sum over channels and positions of the partial L2 distance d, mean over the batch.

    Args:
        s, t: B×C×H×W.
        margin: C.
    """
    target = torch.maximum(t, margin[:, None, None])
    counts = (s > target) | (target > 0)
    return torch.where(counts, (s - target).square(), 0).sum() / len(s)


class Margin(nn.Module):
    """Mean of the negative values of each channel of a teacher's stage.

    Attributes:
        total, count: C, float64: sum and number of the negative values so far.
    """

    total: Tensor
    count: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("total", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(channels, dtype=torch.float64))
        self.known = False
        self._counted: tuple[Tensor, Tensor] | None = None  # total and count with the latest batch

    def take_from(self, norm: nn.BatchNorm2d) -> None:
        """Set it from the parameters of the batch norm, and count no values any more."""
        self.total.copy_(expected_negative(norm.bias.detach(), norm.weight.detach()))
        self.count.fill_(1)
        self.known = True

    def forward(self, f_t: Tensor) -> Tensor:
        """C margins; a counted margin includes the batch of maps, B×C×H×W."""
        total, count = self.total, self.count
        if not self.known:
            total, count = total + f_t.clamp(max=0).sum(dim=(0, 2, 3)), count + (f_t < 0).sum(dim=(0, 2, 3))
            self._counted = total, count
        return (total / count.clamp(min=1)).to(f_t.dtype)

    def keep(self) -> None:
        """Add the batch of the last `forward` to the counts."""
        if self._counted is not None:
            total, count = self._counted
            self.total.copy_(total)
            self.count.copy_(count)
            self._counted = None


@register_method("ofd", aliases=("overhaul",))
class OFD(Method):
    """Match all stages before their last ReLU, as far as the teacher's neurons fire or the student's should not."""

    paper = "Heo et al., A Comprehensive Overhaul of Feature Distillation, ICCV 2019"
    weights = Weights(gamma=1, alpha=0, beta=0.001)
    needs = ("preacts",)
    reads_teacher_logits = False
    required_hooks = ("inspect_networks",)

    def __init__(self, pair: Pair):
        super().__init__(pair)
        shapes_s, shapes_t = pair.student.preacts, pair.teacher.preacts
        self.pairs = pair_stages(len(shapes_s), len(shapes_t))
        self.connectors = nn.ModuleList(_connector(shapes_s[i][0], shapes_t[j][0]) for i, j in self.pairs)
        self._margins = tuple(Margin(shapes_t[j][0]) for _, j in self.pairs)
        self.margins = nn.ModuleList(self._margins)

    def inspect_networks(self, student: Network, teachers: tuple[Network, ...]) -> None:
        super().inspect_networks(student, teachers)
        norms = teachers[0].stage_norms()
        if norms is not None:
            for margin, (_, j) in zip(self._margins, self.pairs, strict=True):
                margin.take_from(norms[j])

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        distances = []
        for connector, margin, (i, j) in zip(self.connectors, self._margins, self.pairs, strict=True):
            m = margin(teacher.preacts[j])
            distances.append(partial_distance(*to_common_size(connector(student.preacts[i]), teacher.preacts[j]), m))
        deepest = len(distances) - 1
        return summed(2.0 ** (place - deepest) * each for place, each in enumerate(distances))

    def after_step(self) -> None:
        for margin in self._margins:
            margin.keep()


def _connector(channels_s: int, channels_t: int) -> nn.Sequential:
    """1×1 convolution and batch norm: B×channels_s×H×W to B×channels_t×H×W."""
    conv = nn.Conv2d(channels_s, channels_t, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(channels_t))
