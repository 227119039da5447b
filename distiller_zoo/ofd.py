"""OFD: A Comprehensive Overhaul of Feature Distillation (Heo et al., ICCV 2019, arXiv:1904.01866).

Before the ReLU, with a margin m_c < 0 for each channel of the teacher and a connector r (1×1 convolution, batch norm):

    u = max(t, m),    d(s, u) = (s − u)² where s > u or u > 0, else 0        both below zero and s below u: no loss
    L = Σ_stages 2^(l−L) · Σ_chw d(r(s), u) / B,   l = 1..L

The margin is the mean of the channel's negative values, E[x | x < 0]. It follows from the last batch norm of the stage,
x ~ N(β, γ²), as published. For teachers whose stages don't end in one (ShuffleNets, MLPs) it is the mean over
the values seen in training so far, the paper's other way. The published factor of 1/1000 is the β of the run.
"""

import math
from functools import singledispatch

import torch
from torch import Tensor, nn

from distiller_zoo.maps import pair_stages, to_common_size
from distiller_zoo.method import Method, Pair, Weights
from distiller_zoo.registry import register_method
from models import Network
from models.mobilenetv2 import MobileNetV2
from models.resnet import ResNet
from models.resnet_imagenet import BottleneckResNet
from models.vgg import VGG
from models.wrn import WideResNet

RARE = 0.001  # where negative values are rarer, the margin is -3 standard deviations


def expected_negative(mean: Tensor, std: Tensor) -> Tensor:
    """E[x | x < 0] of normal distributions, in double precision; mean and std of one shape."""
    mean, std = mean.double(), std.double().abs().clamp(min=1e-12)
    share = torch.special.ndtr(-mean / std)
    density = torch.exp(-((mean / std).square()) / 2) / math.sqrt(2 * math.pi)
    return torch.where(share > RARE, mean - std * density / share.clamp(min=RARE), -3 * std)


def partial_distance(s: Tensor, t: Tensor, margin: Tensor) -> Tensor:
    """Sum over channels and positions of the partial L2 distance, mean over the batch; maps B×C×H×W, C margins."""
    target = torch.maximum(t, margin[:, None, None])
    counts = (s > target) | (target > 0)
    return torch.where(counts, (s - target).square(), 0).sum() / len(s)


@singledispatch
def last_norms(teacher: Network) -> list[nn.BatchNorm2d] | None:
    """The batch norm that ends each stage before its ReLU, of families that have it; else None."""
    return None


@last_norms.register
def _(teacher: ResNet):
    return [stage[-1].bn2 for stage in (teacher.layer1, teacher.layer2, teacher.layer3)]


@last_norms.register
def _(teacher: BottleneckResNet):
    return [stage[-1].bn3 for stage in (teacher.layer1, teacher.layer2, teacher.layer3, teacher.layer4)]


@last_norms.register
def _(teacher: WideResNet):
    return [teacher.block2.layer[0].bn1, teacher.block3.layer[0].bn1, teacher.bn1]


@last_norms.register
def _(teacher: VGG):
    return [block[-1] for block in (teacher.block1, teacher.block2, teacher.block3, teacher.block4)]


@last_norms.register
def _(teacher: MobileNetV2):
    return [teacher.blocks[place][-1].conv[-1] for place in (1, 2, 4, 6)]


class Margin(nn.Module):
    """Mean of the negative values of each channel of a teacher's stage."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("total", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(channels, dtype=torch.float64))
        self.known, self._fresh = False, None

    def take_from(self, norm: nn.BatchNorm2d) -> None:
        """Know it from the parameters of the batch norm, and count no more."""
        self.total.copy_(expected_negative(norm.bias.detach(), norm.weight.detach()))
        self.count.fill_(1)
        self.known = True

    def forward(self, f_t: Tensor) -> Tensor:
        """C margins, those of the batch B×C×H×W counted in."""
        total, count = self.total, self.count
        if not self.known:
            summed = f_t.clamp(max=0).sum(dim=(0, 2, 3)), (f_t < 0).sum(dim=(0, 2, 3))
            total, count = self._fresh = total + summed[0], count + summed[1]
        return (total / count.clamp(min=1)).to(f_t.dtype)

    def keep(self) -> None:
        """Remember the batch that was last seen."""
        if self._fresh is not None:
            self.total.copy_(self._fresh[0])
            self.count.copy_(self._fresh[1])
            self._fresh = None


@register_method("ofd", aliases=("overhaul",))
class OFD(Method):
    """Match all stages before their last ReLU, as far as the teacher's neurons fire or the student's should not."""

    paper = "Heo et al., A Comprehensive Overhaul of Feature Distillation, ICCV 2019"
    weights = Weights(gamma=1, alpha=0, beta=0.001)
    needs = ("preacts",)

    def __init__(self, pair: Pair):
        super().__init__(pair)
        shapes_s, shapes_t = pair.student.preacts, pair.teacher.preacts
        self.pairs = pair_stages(len(shapes_s), len(shapes_t))
        self.connectors = nn.ModuleList(_connector(shapes_s[i][0], shapes_t[j][0]) for i, j in self.pairs)
        self.margins = nn.ModuleList(Margin(shapes_t[j][0]) for _, j in self.pairs)

    def inspect_networks(self, student, teachers):
        norms = last_norms(teachers[0])
        if norms is not None:
            for margin, (_, j) in zip(self.margins, self.pairs, strict=True):
                margin.take_from(norms[j])

    def loss(self, student, teacher, batch):
        total, last = 0.0, len(self.pairs) - 1
        for place, (i, j) in enumerate(self.pairs):
            margin = self.margins[place](teacher.preacts[j])
            s, t = to_common_size(self.connectors[place](student.preacts[i]), teacher.preacts[j])
            total = total + 2.0 ** (place - last) * partial_distance(s, t, margin)
        return total

    def after_step(self):
        for margin in self.margins:
            margin.keep()


def _connector(channels_s: int, channels_t: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_s, channels_t, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(channels_t))
