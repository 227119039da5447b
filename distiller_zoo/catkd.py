"""CAT-KD: Class Attention Transfer Based Knowledge Distillation (Guo et al., CVPR 2023, arXiv:2304.12777).

The class activation map of class k is the last map weighted by the classifier's row k: it shows where k is. The maps of
all classes, pooled to r×r cells, are what the student learns:

    A_k = pool_r( Σ_d W_k,d·f_d ),    L = mean over samples, classes and cells of (A_t − A_s)²

The paper brings each A_k to unit length before. Its published runs do so only for pairs of different families, and
choose β by the pair:

    as it is            15 for resnet32x4 → resnet8x4 (the default), 12 for wrn_40_2 → wrn_16_2, 1.5 for wrn_40_2 →
                        wrn_40_1, 4.5 for vgg13 → vgg8, 1.8 for resnet110 → resnet32, 0.7 for resnet56 → resnet20
    --catkd_normalise   40 for ResNet50 → MobileNetV2, 15 for vgg13 → MobileNetV2; and with --catkd_size 4:
                        600 for resnet32x4 → ShuffleV1 or ShuffleV2, 80 for wrn_40_2 → ShuffleV1

The authors' student has a classifier without bias; here it keeps the bias, which has no part in the maps.
"""

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from distiller_zoo.classifier import TeacherClassifier
from distiller_zoo.maps import average_pool
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Range
from distiller_zoo.predictions import classifier_of
from distiller_zoo.registry import register_method
from models import Features, Network


def class_maps(last_map: Tensor, weight: Tensor, size: int) -> Tensor:
    """B×K×size² class activation maps of a B×D×H×W map, for a classifier of weight K×D."""
    return weight @ average_pool(last_map, (size, size)).flatten(2)


def class_attention_loss(maps_s: Tensor, maps_t: Tensor, normalise: bool) -> Tensor:
    """Mean squared difference of two B×K×cells class maps, each brought to unit length first where asked."""
    if normalise:
        maps_s, maps_t = F.normalize(maps_s, dim=2), F.normalize(maps_t, dim=2)
    return F.mse_loss(maps_s, maps_t)


@register_method("catkd")
class CATKD(Method):
    """Match the class activation maps.

    Options:
        catkd_size: cells along each side of the grid that maps are pooled to.
        catkd_normalise: bring each map to unit length.
    """

    paper = "Guo et al., Class Attention Transfer Based Knowledge Distillation, CVPR 2023"
    weights = Weights(gamma=1, alpha=0, beta=15)
    refuses = "networks whose classifier does not read the channels of their last map"
    needs = ("last_map",)
    required_hooks = ("inspect_networks",)

    def __init__(self, pair: Pair, *, catkd_size: Annotated[int, Range(1, 1024)] = 2, catkd_normalise: bool = False):
        super().__init__(pair)
        self.channels = (pair.student.last_map[0], pair.teacher.last_map[0])
        self.classifier_t = TeacherClassifier(self.channels[1], pair.teacher.num_classes, saved=False)
        self._student: tuple[Network, ...] = ()
        self.size, self.normalise = catkd_size, catkd_normalise

    def inspect_networks(self, student: Network, teachers: tuple[Network, ...]) -> None:
        super().inspect_networks(student, teachers)
        for network, channels in zip((student, teachers[0]), self.channels, strict=True):
            classifier_of(network, channels, self.name)
        self._student = (student,)  # in a tuple: as a submodule it would be trained and saved twice
        self.classifier_t.copy_from(teachers[0])

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        (network,) = self._student
        maps_s = class_maps(student.last_map, network.last_linear.weight, self.size)
        maps_t = class_maps(teacher.last_map, self.classifier_t.weight, self.size)
        return class_attention_loss(maps_s, maps_t, self.normalise)
