"""SRRL: Knowledge Distillation via Softmax Regression Representation Learning (Yang, Martinez, Bulat, Tzimiropoulos,
ICLR 2021).

The student's embedding, brought to the teacher's width, shall be the teacher's and be judged alike by its classifier:

    h = ReLU(BN(W·e_s)),    L = mean( (h − e_t)² ) + mean( (c_t(h) − c_t(e_t))² )

c_t is the teacher's last linear layer. Weights are those of SimKD's tables, which have KL beside it (γ = α = β = 1).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.classifier import TeacherClassifier, rectifier_of
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.registry import register_method
from models import Features, Network


def regression_losses(h: Tensor, e_t: Tensor, classifier: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean squared differences of B×D embeddings and of their B×K logits."""
    return F.mse_loss(h, e_t), F.mse_loss(classifier(h), classifier(e_t))


@register_method("srrl")
class SRRL(Method):
    """Match the embedding, and what the teacher's classifier makes of it."""

    paper = "Yang et al., Knowledge Distillation via Softmax Regression Representation Learning, ICLR 2021"
    weights = Weights(gamma=1, alpha=1, beta=1)
    needs = ("embedding",)
    required_hooks = ("inspect_networks",)

    def __init__(self, pair: Pair):
        super().__init__(pair)
        width = pair.teacher.embedding
        self.connector = nn.Sequential(
            nn.Linear(pair.student.embedding, width, bias=False), nn.BatchNorm1d(width), rectifier_of(pair.teacher)
        )
        self.classifier = TeacherClassifier(width, pair.teacher.num_classes)

    def inspect_networks(self, student: Network, teachers: tuple[Network, ...]) -> None:
        super().inspect_networks(student, teachers)
        self.classifier.copy_from(teachers[0])

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        h = self.connector(student.embedding)
        feature, regression = regression_losses(h, teachers[0].embedding, self.classifier)
        return {"srrl_feature": feature, "srrl_regression": regression}
