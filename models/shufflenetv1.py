"""ShuffleNet (version 1) for small images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.features import Features
from models.network import Network
from models.registry import register_model
from models.resnet import ReluStage, global_average, run_stages

GROUPS = 3
STEM_WIDTH = 24


class ShuffleUnit(nn.Module):
    """Grouped 1×1, shuffle, depthwise 3×3, grouped 1×1, and a shortcut, without the last ReLU.

    The shortcut is added; with stride 2 it is pooled and its channels are appended.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.downsamples = stride == 2
        residual_channels = out_channels - in_channels if self.downsamples else out_channels
        hidden = residual_channels // 4
        # The stem has too few channels to be split into groups.
        self.in_groups = 1 if in_channels == STEM_WIDTH else GROUPS
        self.conv1 = nn.Conv2d(in_channels, hidden, 1, groups=self.in_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, residual_channels, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(residual_channels)

    def forward(self, x: Tensor) -> Tensor:
        """B×in×H×W to B×out×H/stride×W/stride."""
        hidden = F.channel_shuffle(F.relu(self.bn1(self.conv1(x))), self.in_groups)
        hidden = F.relu(self.bn2(self.conv2(hidden)))  # a ReLU that the paper omits and RepDistiller has
        residual = self.bn3(self.conv3(hidden))
        if self.downsamples:
            return torch.cat([residual, F.avg_pool2d(x, 3, stride=2, padding=1)], dim=1)
        return residual + x


class ShuffleNetV1(Network):
    """Zhang, Zhou, Lin, Sun: ShuffleNet: an extremely efficient convolutional neural network, CVPR 2018.

    Three groups, a 1×1 stem and no pooling after it. For S×S images, sizes rounded up: stem 24×S×S;
    stages 240×S/2×S/2, 480×S/4×S/4, 960×S/8×S/8; embedding 960.
    """

    classifier_name = "linear"

    def __init__(self, num_classes: int, image_size: int):
        super().__init__()
        self.image_size = image_size
        self.conv1 = nn.Conv2d(3, STEM_WIDTH, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        self.layer1 = _stage(STEM_WIDTH, 240, count=4)
        self.layer2 = _stage(240, 480, count=8)
        self.layer3 = _stage(480, 960, count=4)
        self.linear = nn.Linear(960, num_classes)

    def features(self, x: Tensor) -> Features:
        stem = F.relu(self.bn1(self.conv1(x)))
        stages, preacts = run_stages(stem, (self.layer1, self.layer2, self.layer3))
        embedding = global_average(stages[-1])
        return Features(self.linear(embedding), embedding, stem, stages, preacts, last_map=stages[-1])


def _stage(in_channels: int, out_channels: int, count: int) -> ReluStage:
    rest = (ShuffleUnit(out_channels, out_channels, stride=1) for _ in range(count - 1))
    return ReluStage(ShuffleUnit(in_channels, out_channels, stride=2), *rest)


register_model(
    "ShuffleV1",
    family="shufflenetv1",
    summary="ShuffleNet with 3 groups, widths 240-480-960",
    aliases=["shufflev1", "ShuffleNetV1", "shuv1"],
    learning_rate=0.01,
)(ShuffleNetV1)
