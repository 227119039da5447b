"""DeiT: Training data-efficient image transformers & distillation through attention (Touvron, Cord, Douze, Massa,
Sablayrolles, Jégou, ICML 2021, arXiv:2012.12877).

A distillation token goes through the blocks beside the class token and has a head of its own (models/vit.py). The class
head learns the label, the distillation head the teacher; the deployed student predicts by the mean of both logits:

    hard    L = ½·CE(z, y) + ½·CE(z_dist, argmax z_t)
    soft    L = (1−λ)·CE(z, y) + λ·T²·KL( softmax(z_t/T) ‖ softmax(z_dist/T) )

γ and β are the two factors. Published values: ½ and ½ in the paper's equation 3, hard labels, which its results have;
for soft labels its section on hyper-parameters takes the usual T = 3 and λ = 0.1 (`-r 0.9 -b 0.1`), while the authors'
code has T = 1 and λ = 0.5 by default. That code also divides the divergence by the B·K elements of the logits (issue
61 of facebookresearch/deit); here it is the mean over the batch, K times as large. --logit_standardization is for soft
labels, and standardises both sides; hard labels are the same with it.
"""

from typing import Annotated, Literal

import torch.nn.functional as F
from torch import Tensor

from common.errors import RequestError
from distiller_zoo.kd import kd_loss
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import OnlyWith, Temperature
from distiller_zoo.registry import register_method
from models import Features, Network
from models.suggestions import suggested


@register_method("deit")
class DeiT(Method):
    """The teacher's label for the head of the distillation token.

    Options:
        deit_labels: the head learns the class that the teacher prefers (`hard`) or its softened prediction (`soft`).
        deit_T: temperature of soft labels.
    """

    paper = "Touvron et al., Training Data-efficient Image Transformers & Distillation through Attention, ICML 2021"
    weights = Weights(gamma=0.5, alpha=0, beta=0.5)
    refuses = "students without the head of a distillation token"
    changes_predictions = True
    weights_from = "the paper's for ImageNet"
    student_needs = ("heads",)
    standardises_itself = True  # the logits of a head
    teacher_needs = ()

    def __init__(
        self,
        pair: Pair,
        *,
        deit_labels: Literal["hard", "soft"] = "hard",
        deit_T: Annotated[Temperature, OnlyWith("deit_labels", ("soft",))] = 3.0,
    ):
        super().__init__(pair)
        self.hard, self.temperature = deit_labels == "hard", deit_T

    def inspect_networks(self, student: Network, teachers: tuple[Network, ...]) -> None:
        if getattr(student, "head_dist", None) is None:
            raise RequestError(
                "deit trains the head of a distillation token, which this student does not have; "
                f"choose one that does, for instance --model_s {suggested('distilled', student.image_size)}"
            )

    def predict(self, features: Features) -> Tensor:
        return self.predictions_by_head(features)["average"]

    def predictions_by_head(self, features: Features) -> dict[str, Tensor]:
        class_head, (distillation_head,) = features.logits, features.heads
        average = (class_head + distillation_head) / 2
        return {"average": average, "class": class_head, "distillation": distillation_head}

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        (logits,) = student.heads
        if self.hard:
            return F.cross_entropy(logits, teacher.logits.argmax(dim=1))
        return kd_loss(self.standardise(logits), self.standardise(teacher.logits), self.temperature)
