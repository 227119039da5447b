"""MobileNetV2 of half width for small images."""

from torch import Tensor, nn

from models.features import Features
from models.network import Network, batch_norms
from models.registry import register_model
from models.resnet import global_average, init_convolutions

STEM_WIDTH = 16
LAST_WIDTH = 1280
# (expansion, width, number of blocks, stride of the first), widths half of those in the paper's table 2
STAGES = ((1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project without activation."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int):
        super().__init__()
        hidden = expansion * in_channels
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            *_conv_bn_relu(in_channels, hidden, 1),
            *_conv_bn_relu(hidden, hidden, 3, stride=stride, padding=1, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """B×in×H×W to B×out×H/stride×W/stride."""
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


class MobileNetV2(Network):
    """Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: inverted residuals and linear bottlenecks, CVPR 2018.

    The `mobile_half` of the distillation literature (Jin et al.: Knowledge distillation via route constrained
    optimization, ICCV 2019): ReLU instead of ReLU6, no dropout, an expanding convolution in the first block too.
    For S×S images, sizes rounded up: stem 16×S/2×S/2; stages 12×S/2×S/2, 16×S/4×S/4, 48×S/8×S/8, 160×S/16×S/16;
    embedding 1280. Stages end without an activation, so `preacts` are the stages.
    """

    classifier_name = "classifier.0"

    def __init__(self, num_classes: int, image_size: int):
        super().__init__()
        self.image_size = image_size
        self.conv1 = nn.Sequential(*_conv_bn_relu(3, STEM_WIDTH, 3, stride=2, padding=1))
        self.blocks = nn.ModuleList()
        in_channels = STEM_WIDTH
        for expansion, width, count, stride in STAGES:
            rest = (InvertedResidual(width, width, 1, expansion) for _ in range(count - 1))
            self.blocks.append(nn.Sequential(InvertedResidual(in_channels, width, stride, expansion), *rest))
            in_channels = width
        self.conv2 = nn.Sequential(*_conv_bn_relu(in_channels, LAST_WIDTH, 1))
        head = nn.Linear(LAST_WIDTH, num_classes)
        self.classifier = nn.Sequential(head)
        init_convolutions(self)
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)

    def stage_norms(self) -> tuple[nn.BatchNorm2d, ...]:
        # Each stage ends in the batch norm of its last block's last convolution.
        return batch_norms(*(list(self.blocks[place].modules())[-1] for place in (1, 2, 4, 6)))

    def features(self, x: Tensor) -> Features:
        stem = self.conv1(x)
        stage1 = self.blocks[1](self.blocks[0](stem))
        stage2 = self.blocks[2](stage1)
        stage3 = self.blocks[4](self.blocks[3](stage2))
        stage4 = self.blocks[6](self.blocks[5](stage3))
        last_map = self.conv2(stage4)
        embedding = global_average(last_map)
        stages = (stage1, stage2, stage3, stage4)
        return Features(self.classifier(embedding), embedding, stem, stages, preacts=stages, last_map=last_map)


def _conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int, **convolution) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size, bias=False, **convolution),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


register_model(
    "MobileNetV2",
    family="mobilenetv2",
    summary="MobileNetV2 of width 0.5, expansion 6",
    aliases=["mobilenetv2", "mobile_half", "mv2"],
    learning_rate=0.01,
)(MobileNetV2)
