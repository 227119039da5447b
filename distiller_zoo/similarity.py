"""SP: Similarity-Preserving Knowledge Distillation (Tung, Mori, ICCV 2019, arXiv:1907.09682), eq. 4.

G = rows of F·Fᵀ, each of unit length (F: B×CHW of the last stage),   L = ‖G_t − G_s‖²_F / B²
"""

import torch.nn.functional as F
from torch import Tensor

from distiller_zoo.method import Batch, Method, Weights
from distiller_zoo.registry import register_method
from models import Features


def similarity_matrix(f: Tensor) -> Tensor:
    """B×B similarities of the samples of B×... features, rows of unit length."""
    flat = f.flatten(1)
    return F.normalize(flat @ flat.T)


def similarity_loss(f_s: Tensor, f_t: Tensor) -> Tensor:
    """Squared Frobenius distance of two similarity matrices over B², for B×... features of any shapes."""
    return F.mse_loss(similarity_matrix(f_s), similarity_matrix(f_t))


@register_method("similarity", aliases=("sp",))
class Similarity(Method):
    """Match the similarities of the samples of a batch in the last stage."""

    paper = "Tung & Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019"
    weights = Weights(gamma=1, alpha=0, beta=3000)
    needs = ("stages",)
    reads_teacher_logits = False

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return similarity_loss(student.stages[-1], teacher.stages[-1])
