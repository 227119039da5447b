"""The ResNet of the ImageNet experiments with a stem for small images: `ResNet50`."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from models.features import Features
from models.network import Network, batch_norms
from models.registry import register_model
from models.resnet import ReluStage, global_average, init_convolutions, run_stages

EXPANSION = 4


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolution and a shortcut, without the last ReLU."""

    def __init__(self, in_channels: int, width: int, stride: int):
        super().__init__()
        out_channels = EXPANSION * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """B×in×H×W to B×(4·width)×H/stride×W/stride."""
        hidden = F.relu(self.bn1(self.conv1(x)))
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        return self.bn3(self.conv3(hidden)) + self.shortcut(x)


class BottleneckResNet(Network):
    """He, Zhang, Ren, Sun: Deep residual learning for image recognition, CVPR 2016, table 1.

    A 3×3 stem of stride 1 without pooling replaces the 7×7 one, which would leave nothing of a small image.
    For S×S images: stem 64×S×S; stages 256×S×S, 512×S/2×S/2, 1024×S/4×S/4, 2048×S/8×S/8; embedding 2048.
    """

    classifier_name = "linear"

    def __init__(self, blocks_per_stage: tuple[int, int, int, int], num_classes: int, image_size: int):
        super().__init__()
        self.image_size = image_size
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, blocks_per_stage[0], stride=1)
        self.layer2 = _stage(256, 128, blocks_per_stage[1], stride=2)
        self.layer3 = _stage(512, 256, blocks_per_stage[2], stride=2)
        self.layer4 = _stage(1024, 512, blocks_per_stage[3], stride=2)
        self.linear = nn.Linear(2048, num_classes)
        init_convolutions(self)

    def stage_norms(self) -> tuple[nn.BatchNorm2d, ...]:
        return batch_norms(*(stage[-1].bn3 for stage in (self.layer1, self.layer2, self.layer3, self.layer4)))

    def features(self, x: Tensor) -> Features:
        stem = F.relu(self.bn1(self.conv1(x)))
        stages, preacts = run_stages(stem, (self.layer1, self.layer2, self.layer3, self.layer4))
        embedding = global_average(stages[-1])
        return Features(self.linear(embedding), embedding, stem, stages, preacts, last_map=stages[-1])


def _stage(in_channels: int, width: int, count: int, stride: int) -> ReluStage:
    rest = (Bottleneck(EXPANSION * width, width, stride=1) for _ in range(count - 1))
    return ReluStage(Bottleneck(in_channels, width, stride), *rest)


register_model(
    "ResNet50",
    family="resnet_imagenet",
    summary="ResNet-50 (bottlenecks) with a 3×3 stem",
    aliases=["resnet50", "res50"],
)(partial(BottleneckResNet, (3, 4, 6, 3)))
