"""Projector ensemble (PEFD): Improved Feature Distillation via Projector Ensemble (Chen, Wang, Liu, Xu, de Hoog, Huang,
NeurIPS 2022, arXiv:2210.15274).

    g(e_s) = 1/q Σ_k ReLU(W_k e_s + b_k),   L = mean( 1 − cos( g(e_s), e_t ) )

Projectors that start from different weights find different directions; their mean overfits less than one of them.
Only the direction of the teacher's embedding is matched. The ReLU suits teachers whose embedding is never negative, as
that of a CNN that ends in a ReLU; without it (--no-pefd_relu) all projectors together are one linear layer.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Modules
from distiller_zoo.registry import register_method
from models import Features


def direction_loss(e_s: Tensor, e_t: Tensor) -> Tensor:
    """1 − cosine of embeddings B×D, mean over the batch."""
    return 1 - F.cosine_similarity(e_s, e_t).mean()


@register_method("projector_ensemble", aliases=("pefd",))
class ProjectorEnsemble(Method):
    """Direction of the embedding, through several projectors.

    Options:
        pefd_projectors: number of projectors.
        pefd_relu: end each projector in a ReLU.
    """

    paper = "Chen et al., Improved Feature Distillation via Projector Ensemble, NeurIPS 2022"
    weights = Weights(gamma=1, alpha=0, beta=25)
    needs = ("embedding",)
    reads_teacher_logits = False

    def __init__(self, pair: Pair, *, pefd_projectors: Modules = 3, pefd_relu: bool = True):
        super().__init__(pair)
        self.relu = pefd_relu
        self.projectors = nn.ModuleList(
            nn.Linear(pair.student.embedding, pair.teacher.embedding) for _ in range(pefd_projectors)
        )

    def project(self, e_s: Tensor) -> Tensor:
        """The mean of all projections of embeddings B×D."""
        each = torch.stack([projector(e_s) for projector in self.projectors])
        return (each.relu() if self.relu else each).mean(dim=0)

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return direction_loss(self.project(student.embedding), teacher.embedding)
