"""Contrast of the student with the teacher within the batch: CRD's question with no memory at all.

    L = −1/B Σ_i log exp(⟨z_s_i, z_t_i⟩/τ) / Σ_j exp(⟨z_s_i, z_t_j⟩/τ)

InfoNCE (van den Oord, Li, Vinyals, arXiv:1807.03748) with the other samples of the batch as negatives, which CRD's
authors advise where a memory of the whole data set is too large. It has no published CIFAR-100 numbers; options and
weight are those of CRD (Tian, Krishnan, Isola, ICLR 2020, arXiv:1910.10699).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.contrast import info_nce
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Temperature, Width
from distiller_zoo.registry import register_method
from models import Features


def batch_contrast(z_s: Tensor, z_t: Tensor, temperature: float) -> Tensor:
    """InfoNCE of B×D unit vectors with their partners, against the partners of the rest of the batch."""
    return info_nce(z_s @ z_t.T / temperature)


@register_method("crd_batch")
class CrdBatch(Method):
    """The teacher's embedding of the same image against those of the rest of the batch.

    Options:
        feat_dim: width of the common embedding space.
        nce_t: τ, temperature of the similarities.
    """

    paper = "Tian et al., Contrastive Representation Distillation, ICLR 2020, with the negatives of van den Oord, 2018"
    weights = Weights(gamma=1, alpha=0, beta=0.8)
    weights_from = "those of crd; no table has this form"
    needs = ("embedding",)
    reads_teacher_logits = False

    def __init__(self, pair: Pair, *, feat_dim: Width = 128, nce_t: Temperature = 0.07):
        super().__init__(pair)
        self.temperature = nce_t
        self.embed_s = nn.Linear(pair.student.embedding, feat_dim)
        self.embed_t = nn.Linear(pair.teacher.embedding, feat_dim)

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        z_s = F.normalize(self.embed_s(student.embedding))
        z_t = F.normalize(self.embed_t(teacher.embedding))
        return batch_contrast(z_s, z_t, self.temperature)
