"""DKD: Decoupled Knowledge Distillation (Zhao, Cui, Song, Qiu, Liang, CVPR 2022, arXiv:2203.08679), eq. 7.

KD's divergence has two parts: the sample's own class against all others (TCKD), and the others among themselves
(NCKD). KD couples them by the weight 1 and the teacher's doubt 1 − p_t,y; here each has a weight of its own:

    b = (p_y, 1 − p_y) of softmax(z/T),    q = softmax(z/T) over the classes other than y
    L = T²·( α·KL(b_t ‖ b_s) + β·KL(q_t ‖ q_s) ) · min(epoch/warmup, 1)

The authors' configurations for CIFAR-100 set β by the pair: 8 for resnet32x4 → resnet8x4 and in the supplement, 6 for
wrn_40_2 → wrn_16_2 or wrn_40_1 and vgg13 → vgg8 or MobileNetV2, 2 for resnet56 → resnet20 and resnet110 → resnet32.
"""

from torch import Tensor

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Epochs, PartWeight, Temperature
from distiller_zoo.predictions import class_against_rest, kl_of_each, other_classes, warm_up
from distiller_zoo.registry import register_method
from models import Features


def tckd_of_each(logits_s: Tensor, logits_t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """B divergences of (own class, all others), times T², for two B×K logits and labels B."""
    log_s = class_against_rest(logits_s / temperature, labels)
    log_t = class_against_rest(logits_t / temperature, labels)
    return kl_of_each(log_s, log_t) * temperature**2


def nckd_of_each(logits_s: Tensor, logits_t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """B divergences among the classes other than the sample's own, times T², for two B×K logits and labels B."""
    log_s = (other_classes(logits_s, labels) / temperature).log_softmax(dim=1)
    log_t = (other_classes(logits_t, labels) / temperature).log_softmax(dim=1)
    return kl_of_each(log_s, log_t) * temperature**2


@register_method("dkd")
class DKD(Method):
    """The target class and the others, each with its weight.

    Options:
        dkd_alpha: weight of the target class within the method's loss.
        dkd_beta: weight of the other classes within the method's loss.
        dkd_T: temperature of both predictions.
        dkd_warmup: epochs over which the loss grows to its full weight; 0: none.
    """

    paper = "Zhao et al., Decoupled Knowledge Distillation, CVPR 2022"
    weights = Weights(gamma=1, alpha=0, beta=1)
    reads_labels = True

    def __init__(
        self,
        pair: Pair,
        *,
        dkd_alpha: PartWeight = 1.0,
        dkd_beta: PartWeight = 8.0,
        dkd_T: Temperature = 4.0,
        dkd_warmup: Epochs = 20,
    ):
        super().__init__(pair)
        self.target_weight, self.others_weight = dkd_alpha, dkd_beta
        self.temperature, self.warmup = dkd_T, dkd_warmup

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        read = (student.logits, teachers[0].logits, batch.main_labels, self.temperature)
        ramp = warm_up(batch.epoch, self.warmup)
        return {
            "dkd_target": ramp * self.target_weight * tckd_of_each(*read).mean(),
            "dkd_others": ramp * self.others_weight * nckd_of_each(*read).mean(),
        }
