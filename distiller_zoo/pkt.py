"""PKT: Learning Deep Representations with Probabilistic Knowledge Transfer (Passalis, Tefas, ECCV 2018), eq. 5-9.

    p(j|i) = (cos(e_i, e_j) + 1)/2, each row of sum 1,    L = mean_ij  p_t · log( (p_t + ε) / (p_s + ε) )

The mean over all B² entries, rather than the sum over j, is what the published weight of 30,000 belongs to.
"""

from torch import Tensor

from distiller_zoo.method import Batch, Method, Weights
from distiller_zoo.registry import register_method
from models import Features

EPS = 1e-7


def neighbour_probabilities(e: Tensor) -> Tensor:
    """B×B conditional probabilities from the cosine kernel of embeddings B×D; rows of sum 1."""
    unit = e / (e.norm(dim=1, keepdim=True) + EPS)
    kernel = ((unit @ unit.T + 1) / 2).clamp(min=0)  # rounding takes a cosine below −1
    return kernel / kernel.sum(dim=1, keepdim=True)


def pkt_loss(e_s: Tensor, e_t: Tensor) -> Tensor:
    """Mean over B×B of p_t·log(p_t / p_s), for embeddings B×D and B×D' of student and teacher."""
    p_s, p_t = neighbour_probabilities(e_s), neighbour_probabilities(e_t)
    return (p_t * ((p_t + EPS) / (p_s + EPS)).log()).mean()


@register_method("pkt")
class PKT(Method):
    """Probabilities of being neighbours in embedding space."""

    paper = "Passalis & Tefas, Probabilistic Knowledge Transfer, ECCV 2018"
    weights = Weights(gamma=1, alpha=0, beta=30000)
    needs = ("embedding",)
    reads_teacher_logits = False

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return pkt_loss(student.embedding, teacher.embedding)
