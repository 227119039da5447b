"""Wide residual networks, whose blocks normalise before they convolve: `wrn_<depth>_<width factor>`."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from models.features import Features
from models.network import Network, batch_norms
from models.registry import register_model
from models.resnet import global_average, init_convolutions


class PreactBlock(nn.Module):
    """BN-ReLU-conv twice and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.convShortcut = None
        if in_channels != out_channels:
            self.convShortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """B×in×H×W to B×out×H/stride×W/stride, and the output of the first BN, B×in×H×W."""
        normalised = self.bn1(x)
        active = F.relu(normalised)
        residual = self.conv2(F.relu(self.bn2(self.conv1(active))))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        return shortcut + residual, normalised


class PreactStage(nn.Module):
    """Blocks of one resolution."""

    def __init__(self, in_channels: int, out_channels: int, count: int, stride: int):
        super().__init__()
        rest = (PreactBlock(out_channels, out_channels, stride=1) for _ in range(count - 1))
        self.layer = nn.Sequential(PreactBlock(in_channels, out_channels, stride), *rest)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """B×in×H×W to the output B×out×H/stride×W/stride, and the first block's normalised input B×in×H×W."""
        first, *rest = self.layer
        x, normalised_input = first(x)
        for block in rest:
            x, _ = block(x)
        return x, normalised_input


class WideResNet(Network):
    """Zagoruyko, Komodakis: Wide residual networks, BMVC 2016; without dropout.

    For width factor k and S×S images: stem 16×S×S; stages 16k×S×S, 32k×S/2×S/2, 64k×S/4×S/4; embedding 64k.
    """

    norm_follows_last_stage = True

    def __init__(self, depth: int, width_factor: int, num_classes: int, image_size: int):
        super().__init__()
        self.image_size = image_size
        widths = [factor * width_factor for factor in (16, 32, 64)]
        blocks_per_stage = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = PreactStage(16, widths[0], blocks_per_stage, stride=1)
        self.block2 = PreactStage(widths[0], widths[1], blocks_per_stage, stride=2)
        self.block3 = PreactStage(widths[1], widths[2], blocks_per_stage, stride=2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], num_classes)
        init_convolutions(self)
        nn.init.zeros_(self.fc.bias)

    def stage_norms(self) -> tuple[nn.BatchNorm2d, ...]:
        return batch_norms(self.block2.layer[0].bn1, self.block3.layer[0].bn1, self.bn1)

    def features(self, x: Tensor) -> Features:
        # The ReLU that ends a stage lies in the next one, behind that one's first BN. Its input is handed back from
        # there: running the BN a second time for it would also update the running statistics a second time.
        stem = self.conv1(x)
        stage1, _ = self.block1(stem)
        stage2, preact1 = self.block2(stage1)
        stage3, preact2 = self.block3(stage2)
        preact3 = self.bn1(stage3)
        last_map = F.relu(preact3)
        embedding = global_average(last_map)
        return Features(
            logits=self.fc(embedding),
            embedding=embedding,
            stem=stem,
            stages=(stage1, stage2, stage3),
            preacts=(preact1, preact2, preact3),
            last_map=last_map,
        )


for _depth, _factor in ((16, 1), (16, 2), (40, 1), (40, 2)):
    register_model(
        f"wrn_{_depth}_{_factor}",
        family="wrn",
        summary=f"wide ResNet of {_depth} layers, width factor {_factor}",
        aliases=[f"wrn{_depth}_{_factor}", f"WRN-{_depth}-{_factor}", f"wrn-{_depth}-{_factor}"],
    )(partial(WideResNet, _depth, _factor))
