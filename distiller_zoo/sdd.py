"""SDD: Scale Decoupled Distillation (Wei, Luo, Luo, CVPR 2024, arXiv:2403.13512) with KD's loss (SD-KD).

The classifier reads averages over regions of the last map, not of the whole alone: for each scale m of M the m×m cells.
KD is done for every region r; a region in which the teacher is right where it errs on the whole image, or the reverse,
is complementary and weighs more, the others are consistent:

    z_r = W·mean_{region r} f + c,    w_r = 1 if (argmax z_t,r = y) = (argmax z_t,whole = y), else 2
    L = mean over samples and regions of  w_r · T²·KL( softmax(z_t,r/T) ‖ softmax(z_s,r/T) )

M is {1, 2} for pairs of one family and {1, 2, 4} across families in the authors' runs. With DKD in place of KD it is
the method sdd_dkd. Under --logit_standardization the logits of each region are standardised ("SDD+LS").
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from distiller_zoo.classifier import TeacherClassifier
from distiller_zoo.maps import average_pool
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import OnlyWith, Temperature, Weight
from distiller_zoo.predictions import classifier_of, kl_of_each
from distiller_zoo.registry import register_method
from models import Features, Network


def region_logits(last_map: Tensor, weight: Tensor, bias: Tensor | None, scales: Sequence[int]) -> Tensor:
    """R×B×K logits of the regions of a B×D×H×W map, for a classifier of weight K×D and bias K."""
    regions = torch.cat([average_pool(last_map, (scale, scale)).flatten(2) for scale in scales], dim=2)
    return F.linear(regions.permute(2, 0, 1), weight, bias)


def region_weights(logits_t: Tensor, labels: Tensor, complementary: float) -> Tensor:
    """R×B weights from the teacher's R×B×K logits, whose first region is the whole image, and labels B."""
    right = logits_t.argmax(dim=2) == labels
    return 1 + (complementary - 1) * (right != right[:1]).to(logits_t.dtype)


def sdd_loss(logits_s: Tensor, logits_t: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """T² times the weighted (R×B) mean divergence of the regions' R×B×K logits."""
    log_s = (logits_s / temperature).log_softmax(dim=2)
    log_t = (logits_t / temperature).log_softmax(dim=2)
    return (weights * kl_of_each(log_s, log_t)).mean() * temperature**2


@register_method("sdd")
class SDD(Method):
    """KD of every region of the image.

    Options:
        sdd_scales: cells along each side of the grids that the last map is cut into; 1 is the whole image.
        sdd_complementary: weight of a complementary region; the others have 1.
        sdd_T: temperature of both predictions.
    """

    paper = "Wei et al., Scale Decoupled Distillation, CVPR 2024"
    weights = Weights(gamma=0.1, alpha=0, beta=0.9)
    refuses = "networks whose classifier does not read the channels of their last map"
    needs = ("last_map",)
    reads_labels = True
    required_hooks = ("inspect_networks",)
    standardises_itself = True  # the logits of regions

    def __init__(
        self,
        pair: Pair,
        *,
        sdd_scales: Literal["1", "1,2", "1,2,4"] = "1,2",
        sdd_complementary: Annotated[Weight, OnlyWith("sdd_scales", ("1,2", "1,2,4"))] = 2.0,
        sdd_T: Temperature = 4.0,
    ):
        super().__init__(pair)
        self.channels = (pair.student.last_map[0], pair.teacher.last_map[0])
        self.classifier_t = TeacherClassifier(self.channels[1], pair.teacher.num_classes, saved=False)
        self._student: tuple[Network, ...] = ()
        self.scales = tuple(int(scale) for scale in sdd_scales.split(","))
        self.complementary, self.temperature = sdd_complementary, sdd_T

    def inspect_networks(self, student: Network, teachers: tuple[Network, ...]) -> None:
        super().inspect_networks(student, teachers)
        for network, channels in zip((student, teachers[0]), self.channels, strict=True):
            classifier_of(network, channels, self.name)
        self._student = (student,)  # in a tuple: as a submodule it would be trained and saved twice
        self.classifier_t.copy_from(teachers[0])

    def regions(self, student: Features, teacher: Features) -> tuple[Tensor, Tensor]:
        """R×B×K logits of the regions, of student and teacher."""
        (network,) = self._student
        c_s, c_t = network.last_linear, self.classifier_t
        logits_s = region_logits(student.last_map, c_s.weight, c_s.bias, self.scales)
        return logits_s, region_logits(teacher.last_map, c_t.weight, c_t.bias, self.scales)

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        logits_s, logits_t = self.regions(student, teacher)
        weights = region_weights(logits_t, batch.main_labels, self.complementary)
        return sdd_loss(self.standardise(logits_s), self.standardise(logits_t), weights, self.temperature)
