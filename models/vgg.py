"""VGG with batch normalisation and a single linear layer: `vgg8` to `vgg19`."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from models.features import Features
from models.network import Network, batch_norms
from models.registry import register_model
from models.resnet import global_average, init_convolutions

WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
MIN_IMAGE_SIZE = 8


class VGG(Network):
    """Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition, ICLR 2015.

    With batch normalisation (Ioffe, Szegedy, ICML 2015) and one linear layer instead of three. For S×S images, S < 64:
    stem 64×S×S; stages 128×S/2×S/2, 256×S/4×S/4, 512×S/8×S/8, 512×S/8×S/8; embedding 512. From 64×64 on the last
    stage is halved once more, to 512×S/16×S/16.
    """

    classifier_name = "classifier"
    block0: nn.Sequential
    block1: nn.Sequential
    block2: nn.Sequential
    block3: nn.Sequential
    block4: nn.Sequential

    def __init__(self, convolutions: tuple[int, int, int, int, int], num_classes: int, image_size: int):
        if image_size < MIN_IMAGE_SIZE:
            raise RequestError(f"VGG halves its images three times: image size {image_size} < {MIN_IMAGE_SIZE}")
        super().__init__()
        self.image_size = image_size
        in_channels = 3
        for index, (width, count) in enumerate(zip(WIDTHS, convolutions, strict=True)):
            self.add_module(f"block{index}", _block(in_channels, width, count))
            in_channels = width
        self.classifier = nn.Linear(WIDTHS[-1], num_classes)
        init_convolutions(self)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def stage_norms(self) -> tuple[nn.BatchNorm2d, ...]:
        return batch_norms(*(block[-1] for block in (self.block1, self.block2, self.block3, self.block4)))

    def features(self, x: Tensor) -> Features:
        stem = F.relu(self.block0(x))
        preact1 = self.block1(F.max_pool2d(stem, 2))
        stage1 = F.relu(preact1)
        preact2 = self.block2(F.max_pool2d(stage1, 2))
        stage2 = F.relu(preact2)
        preact3 = self.block3(F.max_pool2d(stage2, 2))
        stage3 = F.relu(preact3)
        preact4 = self.block4(F.max_pool2d(stage3, 2) if x.shape[2] >= 64 else stage3)
        stage4 = F.relu(preact4)
        embedding = global_average(stage4)
        return Features(
            logits=self.classifier(embedding),
            embedding=embedding,
            stem=stem,
            stages=(stage1, stage2, stage3, stage4),
            preacts=(preact1, preact2, preact3, preact4),
            last_map=stage4,
        )


def _block(in_channels: int, width: int, count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        in_channels = width
    return nn.Sequential(*layers[:-1])  # the last ReLU is left to the network, which records its input


for _depth, _convolutions in CONVOLUTIONS.items():
    register_model(
        f"vgg{_depth}",
        family="vgg",
        summary=f"VGG of {_depth} layers with batch normalisation",
        aliases=[f"vgg{_depth}_bn"],
    )(partial(VGG, _convolutions))
