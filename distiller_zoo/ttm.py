"""TTM: KD Based on Transformed Teacher Matching (Zheng, Yang, ICLR 2024, arXiv:2402.11148).

A temperature on the teacher's side alone, as a power γ = 1/T of its probabilities; none on the student's:

    q = p_t^γ / Σ_k p_t,k^γ,    L = mean KL( q ‖ softmax(z_s) )

γ and the weight β are tuned for each pair in the paper (appendix A.4). The defaults are those of the authors' example,
vgg13 → vgg8: γ = 0.1, β = 45. That is much for few classes: in a short run on the ten digits, at a
learning rate of 0.05, a student learned nothing with it, and learned well with -b 5.
"""

from torch import Tensor

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Exponent
from distiller_zoo.predictions import kl_of_each
from distiller_zoo.registry import register_method
from models import Features


def transformed_kl_of_each(logits_s: Tensor, logits_t: Tensor, power: float) -> Tensor:
    """B divergences of the student from the teacher's probabilities to a power, normalised; two B×K logits."""
    return kl_of_each(logits_s.log_softmax(dim=1), (power * logits_t).log_softmax(dim=1))


@register_method("ttm")
class TTM(Method):
    """Match the transformed teacher.

    Options:
        ttm_l: γ, power of the teacher's probabilities (ttm_l is the authors' name).
    """

    paper = "Zheng & Yang, Knowledge Distillation Based on Transformed Teacher Matching, ICLR 2024"
    weights = Weights(gamma=1, alpha=0, beta=45)

    def __init__(self, pair: Pair, *, ttm_l: Exponent = 0.1):
        super().__init__(pair)
        self.power = ttm_l

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return transformed_kl_of_each(student.logits, teacher.logits, self.power).mean()
