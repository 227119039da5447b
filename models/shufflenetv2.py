"""ShuffleNet version 2 for small images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.features import Features
from models.network import Network
from models.registry import register_model
from models.resnet import global_average, run_stages


class SplitUnit(nn.Module):
    """Convolves the second half of the channels and keeps the first."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """B×C×H×W to the shuffled output and the unshuffled one before the last ReLU, both B×C×H×W."""
        kept, hidden = x.chunk(2, dim=1)
        hidden = F.relu(self.bn1(self.conv1(hidden)))
        hidden = self.bn3(self.conv3(self.bn2(self.conv2(hidden))))
        out = F.channel_shuffle(torch.cat([kept, F.relu(hidden)], dim=1), 2)
        return out, torch.cat([kept, hidden], dim=1)


class DownUnit(nn.Module):
    """Two branches of stride 2, joined and shuffled."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        half = out_channels // 2
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, stride=2, padding=1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, stride=2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        """B×in×H×W to B×out×H/2×W/2."""
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = F.relu(self.bn3(self.conv3(x)))
        right = F.relu(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return F.channel_shuffle(torch.cat([left, right], dim=1), 2)


class ShuffleStage(nn.Sequential):
    """A `DownUnit` and `count` `SplitUnit`s."""

    def __init__(self, in_channels: int, out_channels: int, count: int):
        super().__init__(DownUnit(in_channels, out_channels), *(SplitUnit(out_channels) for _ in range(count)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """B×in×H×W to both outputs of the last unit, B×out×H/2×W/2."""
        down, *units = self
        x = down(x)
        for unit in units:
            x, preact = unit(x)
        return x, preact


class ShuffleNetV2(Network):
    """Ma, Zhang, Zheng, Sun: ShuffleNet V2: practical guidelines for efficient CNN architecture design, ECCV 2018.

    Width 1 with a 1×1 stem and no pooling after it. For S×S images, sizes rounded up: stem 24×S×S;
    stages 116×S/2×S/2, 232×S/4×S/4, 464×S/8×S/8; embedding 1024, the pooled output of a last 1×1 convolution.
    """

    classifier_name = "linear"

    def __init__(self, num_classes: int, image_size: int):
        super().__init__()
        self.image_size = image_size
        self.conv1 = nn.Conv2d(3, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = ShuffleStage(24, 116, count=3)
        self.layer2 = ShuffleStage(116, 232, count=7)
        self.layer3 = ShuffleStage(232, 464, count=3)
        self.conv2 = nn.Conv2d(464, 1024, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1024)
        self.linear = nn.Linear(1024, num_classes)

    def features(self, x: Tensor) -> Features:
        stem = F.relu(self.bn1(self.conv1(x)))
        # A preact keeps the channel order from before the shuffle, so relu(preact) is a permutation of its stage.
        # RepDistiller has it so; a shuffled one would give other values than the networks whose results we compare.
        stages, preacts = run_stages(stem, (self.layer1, self.layer2, self.layer3))
        last_map = F.relu(self.bn2(self.conv2(stages[-1])))
        embedding = global_average(last_map)
        return Features(self.linear(embedding), embedding, stem, stages, preacts, last_map)


register_model(
    "ShuffleV2",
    family="shufflenetv2",
    summary="ShuffleNetV2 of width 1, widths 116-232-464-1024",
    aliases=["shufflev2", "ShuffleNetV2", "shuv2"],
    learning_rate=0.01,
)(ShuffleNetV2)
