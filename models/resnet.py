"""ResNets for small images, plain (`resnet20`) and four times as wide (`resnet8x4`)."""

from collections.abc import Iterable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from models.features import Features
from models.network import Network, batch_norms
from models.registry import register_model

PLAIN_WIDTHS = (16, 16, 32, 64)
WIDE_WIDTHS = (32, 64, 128, 256)


def init_convolutions(network: nn.Module) -> None:
    """Draw weights of all convolutions from a normal of variance 2/fan-out (He et al., ICCV 2015); biases are zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def global_average(maps: Tensor) -> Tensor:
    """Mean over positions: B×C×H×W to B×C."""
    return F.adaptive_avg_pool2d(maps, 1).flatten(1)


class ReluStage(nn.Sequential):
    """Blocks that leave their last ReLU to the stage, which returns its output and its input."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """B×C×H×W to B×C'×H'×W' after the last ReLU and B×C'×H'×W' before it."""
        for block in self:
            preact = block(x)
            x = F.relu(preact)
        return x, preact


def run_stages(x: Tensor, stages: Iterable[nn.Module]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Run stages one after the other, each of which returns output and preact; returns all outputs and all preacts."""
    outputs, preacts = [], []
    for stage in stages:
        x, preact = stage(x)
        outputs.append(x)
        preacts.append(preact)
    return tuple(outputs), tuple(preacts)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, without the last ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """B×in×H×W to B×out×H/stride×W/stride."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return residual + self.downsample(x)


class ResNet(Network):
    """He, Zhang, Ren, Sun: Deep residual learning for image recognition, CVPR 2016, section 4.2.

    With 1×1 convolutions in the shortcuts that change shape (option B). For widths (w0, w1, w2, w3) and S×S images:
    stem w0×S×S; stages w1×S×S, w2×S/2×S/2, w3×S/4×S/4; embedding w3. State-dict keys are those of RepDistiller and
    of pytorch-cifar-models.
    """

    def __init__(self, depth: int, widths: tuple[int, int, int, int], num_classes: int, image_size: int):
        super().__init__()
        self.image_size = image_size
        stem, *outs = widths
        blocks_per_stage = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(stem, outs[0], blocks_per_stage, stride=1)
        self.layer2 = _stage(outs[0], outs[1], blocks_per_stage, stride=2)
        self.layer3 = _stage(outs[1], outs[2], blocks_per_stage, stride=2)
        self.fc = nn.Linear(outs[2], num_classes)
        init_convolutions(self)

    def stage_norms(self) -> tuple[nn.BatchNorm2d, ...]:
        return batch_norms(*(stage[-1].bn2 for stage in (self.layer1, self.layer2, self.layer3)))

    def features(self, x: Tensor) -> Features:
        stem = F.relu(self.bn1(self.conv1(x)))
        stages, preacts = run_stages(stem, (self.layer1, self.layer2, self.layer3))
        embedding = global_average(stages[-1])
        return Features(self.fc(embedding), embedding, stem, stages, preacts, last_map=stages[-1])


def _stage(in_channels: int, out_channels: int, count: int, stride: int) -> ReluStage:
    rest = (BasicBlock(out_channels, out_channels, stride=1) for _ in range(count - 1))
    return ReluStage(BasicBlock(in_channels, out_channels, stride), *rest)


def _register(name: str, depth: int, widths: tuple[int, int, int, int]) -> None:
    summary = f"ResNet of {depth} layers, widths {'-'.join(map(str, widths))}"
    aliases = [name.replace("resnet", "res")]  # as configurations of mdistiller are named
    register_model(name, family="resnet", summary=summary, aliases=aliases)(partial(ResNet, depth, widths))


for _depth in (8, 14, 20, 32, 44, 56, 110):
    _register(f"resnet{_depth}", _depth, PLAIN_WIDTHS)
for _depth in (8, 32):
    _register(f"resnet{_depth}x4", _depth, WIDE_WIDTHS)
