"""SimKD: Knowledge Distillation with the Reused Teacher Classifier (Chen et al., CVPR 2022, arXiv:2203.14001).

A projector P brings the student's last map to the teacher's; the teacher's classifier then predicts for the student:

    L = mean( (P(f_s) − f_t)² ),    logits = c_t( mean_hw P(f_s) )

P is 1×1, 3×3 and 1×1 convolutions, each with batch norm and ReLU, 1/r as wide in the middle as the teacher. The larger
map is pooled to the smaller. There is no other loss (γ = α = 0); the student's own classifier is neither trained nor
used, and the deployed network is student, projector and the teacher's classifier.

f_s is the map behind the student's embedding, but that of its last stage where a further layer widens it for the
student's own classifier (MobileNetV2, ShuffleV2), as in the authors' code. f_t is the one behind the embedding.
"""

from dataclasses import replace
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from distiller_zoo.classifier import TeacherClassifier, rectifier_of
from distiller_zoo.maps import bottleneck
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Range
from distiller_zoo.registry import register_method
from models import Features, Network


@register_method("simkd")
class SimKD(Method):
    """Match the map behind the embedding, and predict by the teacher's classifier.

    Options:
        simkd_factor: r, by which the projector is narrower than the teacher.
    """

    paper = "Chen et al., Knowledge Distillation with the Reused Teacher Classifier, CVPR 2022"
    weights = Weights(gamma=0, alpha=0, beta=1)
    refuses = "teachers whose classifier does not read the channels of their last map"
    needs = ("last_map",)
    attaches = True
    changes_predictions = True
    required_hooks = ("inspect_networks",)

    def __init__(self, pair: Pair, *, simkd_factor: Annotated[int, Range(1, 65_536)] = 2):
        super().__init__(pair)
        last_map, stages = pair.student.last_map, pair.student.stages
        self.reads_stage = bool(stages) and stages[-1][0] != last_map[0]
        channels_s, *size_s = stages[-1] if self.reads_stage else last_map
        channels_t, *size_t = pair.teacher.last_map
        if not 1 <= simkd_factor <= channels_t:
            raise RequestError(
                f"--simkd_factor is {simkd_factor}; it must be from 1 to {channels_t}, the teacher's width"
            )
        height, width = map(min, size_s, size_t)
        self.size = (height, width)
        last = rectifier_of(pair.teacher)
        self.projector = bottleneck(channels_s, channels_t // simkd_factor, channels_t)
        self.projector.extend([nn.BatchNorm2d(channels_t), last])
        self.classifier = TeacherClassifier(channels_t, pair.teacher.num_classes)

    def inspect_networks(self, student: Network, teachers: tuple[Network, ...]) -> None:
        super().inspect_networks(student, teachers)
        self.classifier.copy_from(teachers[0])

    def attach(self, features: Features) -> Features:
        f_s = features.stages[-1] if self.reads_stage else features.last_map
        projected = self.projector(self._pooled(f_s))
        if self.training:  # for the loss; deployed, the features stay those of the network
            features = replace(features, last_map=projected)
        return replace(features, logits=self.classifier(projected.mean(dim=(2, 3))))

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return F.mse_loss(student.last_map, self._pooled(teacher.last_map))

    def _pooled(self, f: Tensor) -> Tensor:
        return f if f.shape[2:] == self.size else F.adaptive_avg_pool2d(f, self.size)
