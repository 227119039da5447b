"""WTTM: weighted Transformed Teacher Matching (Zheng, Yang, ICLR 2024, arXiv:2402.11148).

TTM (see ttm.py) in which each sample counts as much as its transformed target is smooth:

    U = Σ_k p_t,k^γ,    q = p_t^γ / U,    L = mean U·KL( q ‖ softmax(z_s) )

γ and the weight β are tuned for each pair in the paper (appendix A.4). The defaults are those of the one example that
the authors give, WTTM beside CRD for vgg13 → vgg8: γ = 0.2, β = 4.
"""

from torch import Tensor

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Exponent
from distiller_zoo.registry import register_method
from distiller_zoo.ttm import transformed_kl_of_each
from models import Features


def power_sum(logits_t: Tensor, power: float) -> Tensor:
    """B sums over the classes of the teacher's probabilities to a power; B×K logits."""
    return (power * logits_t.log_softmax(dim=1)).exp().sum(dim=1)


def wttm_loss(logits_s: Tensor, logits_t: Tensor, power: float) -> Tensor:
    """Mean over the batch of the weighted divergence, for two B×K logits."""
    return (power_sum(logits_t, power) * transformed_kl_of_each(logits_s, logits_t, power)).mean()


@register_method("wttm")
class WTTM(Method):
    """Match the transformed teacher, samples with smooth targets first.

    Options:
        wttm_l: γ, power of the teacher's probabilities (ttm_l is the authors' name).
    """

    paper = "Zheng & Yang, Knowledge Distillation Based on Transformed Teacher Matching, ICLR 2024"
    weights = Weights(gamma=1, alpha=0, beta=4)

    def __init__(self, pair: Pair, *, wttm_l: Exponent = 0.2):
        super().__init__(pair)
        self.power = wttm_l

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return wttm_loss(student.logits, teacher.logits, self.power)
