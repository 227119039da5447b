"""RLD: Knowledge Distillation with Refined Logits (Sun et al., ICCV 2025, arXiv:2408.07703).

Teachers err. Sample confidence (SCD) asks of the student, for the true class y, what the teacher grants its favourite
class m; masked correlation (MCD) compares only the classes that the teacher ranks below the true one:

    b_s = (p_s,y, 1 − p_s,y),    b_t = (p_t,m, 1 − p_t,m),    m = argmax z_t,    p = softmax(z/T)
    q = softmax(z/T) over the classes k with z_t,k < z_t,y
    L = T²·( α·KL(b_t ‖ b_s) + β·KL(q_t ‖ q_s) ) · min(epoch/warmup, 1)

A sample whose true class comes last with the teacher has no second part. The authors' code has a temperature of its own
for SCD; their training command sets it to T, as here.
"""

from torch import Tensor

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Epochs, PartWeight, Temperature
from distiller_zoo.predictions import class_against_rest, kl_of_each, warm_up
from distiller_zoo.registry import register_method
from models import Features

MASKED = -1e9  # a logit of no weight, yet finite: a row of these alone gives zero, not NaN


def confidence_loss(logits_s: Tensor, logits_t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """SCD: T² times the mean divergence of (class, rest) between label and teacher's favourite; two B×K logits."""
    log_s = class_against_rest(logits_s / temperature, labels)
    log_t = class_against_rest(logits_t / temperature, logits_t.argmax(dim=1))
    return kl_of_each(log_s, log_t).mean() * temperature**2


def masked_correlation_loss(logits_s: Tensor, logits_t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """MCD: T² times the mean divergence among the classes that the teacher ranks below the label; two B×K logits."""
    masked = logits_t >= logits_t.gather(1, labels[:, None])
    log_s = (logits_s / temperature).masked_fill(masked, MASKED).log_softmax(dim=1)
    log_t = (logits_t / temperature).masked_fill(masked, MASKED).log_softmax(dim=1)
    return kl_of_each(log_s, log_t).mean() * temperature**2


@register_method("rld")
class RLD(Method):
    """The teacher's confidence and class correlations, without its errors.

    Options:
        rld_alpha: weight of the teacher's confidence within the method's loss.
        rld_beta: weight of the masked correlation within the method's loss.
        rld_T: temperature of both predictions.
        rld_warmup: epochs over which the loss grows to its full weight; 0: none.
    """

    paper = "Sun et al., Knowledge Distillation with Refined Logits, ICCV 2025"
    weights = Weights(gamma=1, alpha=0, beta=1)
    reads_labels = True

    def __init__(
        self,
        pair: Pair,
        *,
        rld_alpha: PartWeight = 1.0,
        rld_beta: PartWeight = 8.0,
        rld_T: Temperature = 4.0,
        rld_warmup: Epochs = 20,
    ):
        super().__init__(pair)
        self.confidence_weight, self.correlation_weight = rld_alpha, rld_beta
        self.temperature, self.warmup = rld_T, rld_warmup

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        read = (student.logits, teachers[0].logits, batch.main_labels, self.temperature)
        ramp = warm_up(batch.epoch, self.warmup)
        return {
            "rld_confidence": ramp * self.confidence_weight * confidence_loss(*read),
            "rld_correlation": ramp * self.correlation_weight * masked_correlation_loss(*read),
        }
