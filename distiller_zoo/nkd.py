"""NKD: From Knowledge Distillation to Self-Knowledge Distillation (Yang et al., ICCV 2023, arXiv:2303.13005).

The teacher's probability of the label weighs a second cross-entropy with it; the other classes are normalised to sum 1
in both networks before they are compared:

    p = softmax(z),    q = softmax(z/λ) over the classes other than y
    L = −p_t,y·log p_s,y  −  γ·λ²·Σ_{k≠y} q_t,k·log q_s,k

γ = 1.5 and λ = 1 are the authors' for CNNs on ImageNet, and what others took for RepDistiller's pairs on CIFAR-100;
their own configuration there, for resnet34 → resnet18, has γ = 3.5 and λ = 3. In one version of their code, and in
copies of it, the label slipped into both normalised sets; here it is out, as in the paper and their corrected code.
"""

from torch import Tensor

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Temperature, Weight
from distiller_zoo.predictions import other_classes
from distiller_zoo.registry import register_method
from models import Features


def target_loss(logits_s: Tensor, logits_t: Tensor, labels: Tensor) -> Tensor:
    """Mean over the batch of −p_t,y·log p_s,y, for two B×K logits and labels B."""
    log_s = logits_s.log_softmax(dim=1).gather(1, labels[:, None])
    weight = logits_t.softmax(dim=1).gather(1, labels[:, None])
    return -(weight * log_s).mean()


def others_loss(logits_s: Tensor, logits_t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """λ² times the mean cross-entropy of the normalised probabilities of the classes other than the label.

    Args:
        logits_s, logits_t: B×K.
        labels: B.
        temperature: λ.
    """
    log_s = (other_classes(logits_s, labels) / temperature).log_softmax(dim=1)
    weight = (other_classes(logits_t, labels) / temperature).softmax(dim=1)
    return -(weight * log_s).sum(dim=1).mean() * temperature**2


@register_method("nkd")
class NKD(Method):
    """Label and normalised other classes; cross-entropy stays beside it whole.

    Options:
        nkd_gamma: γ, weight of the other classes within the method's loss.
        nkd_T: λ, temperature of the other classes.
    """

    paper = "Yang et al., From Knowledge Distillation to Self-Knowledge Distillation, ICCV 2023"
    weights = Weights(gamma=1, alpha=0, beta=1)
    reads_labels = True

    def __init__(self, pair: Pair, *, nkd_gamma: Weight = 1.5, nkd_T: Temperature = 1.0):
        super().__init__(pair)
        self.others_weight, self.temperature = nkd_gamma, nkd_T

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        logits_s, logits_t, labels = student.logits, teachers[0].logits, batch.main_labels
        return {
            "nkd_target": target_loss(logits_s, logits_t, labels),
            "nkd_others": self.others_weight * others_loss(logits_s, logits_t, labels, self.temperature),
        }
