"""ResNet-50 as it is used on photographs: with the stem that divides height and width by four."""

import torch.nn.functional as F
from torch import Tensor, nn

from models.features import Features
from models.registry import register_model
from models.resnet import global_average, init_convolutions, run_stages
from models.resnet_imagenet import BottleneckResNet

BLOCKS = (3, 4, 6, 3)


@register_model(
    "ResNet50_photo",
    family="resnet_photographs",
    summary="ResNet-50 with the 7×7 stem and pooling, for photographs of 96 px and more",
)
class PhotographResNet50(BottleneckResNet):
    """He, Zhang, Ren, Sun: Deep residual learning for image recognition, CVPR 2016, table 1.

    For S×S images, sizes rounded up: stem 64×S/2×S/2; stages 256×S/4×S/4, 512×S/8×S/8, 1024×S/16×S/16, 2048×S/32×S/32;
    embedding 2048.
    """

    def __init__(self, num_classes: int, image_size: int):
        super().__init__(BLOCKS, num_classes, image_size)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        init_convolutions(self.conv1)

    def features(self, x: Tensor) -> Features:
        stem = F.relu(self.bn1(self.conv1(x)))
        pooled = F.max_pool2d(stem, 3, 2, padding=1)
        stages, preacts = run_stages(pooled, (self.layer1, self.layer2, self.layer3, self.layer4))
        embedding = global_average(stages[-1])
        return Features(self.linear(embedding), embedding, stem, stages, preacts, last_map=stages[-1])
