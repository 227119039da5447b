"""VkD: Improving Knowledge Distillation using Orthogonal Projections (Miles, Elezi, Deng, CVPR 2024, arXiv:2403.06213).

    L = mean smooth-L1( P e_s − LN(e_t) ),   PᵀP = I  (P·Pᵀ = I where the student is the wider)

P is a linear projection that stays orthogonal: it keeps the student's similarities and can learn no shortcut of its
own. LN makes each of the teacher's embeddings one of mean 0 and variance 1, the normalisation for discriminative
tasks. The paper distils CNNs into vision transformers on ImageNet; no weights for CIFAR-100 are published. Those here
are the authors': γ = α = β = 1, where their KL is at temperature 1 (--kd_T 1) and read from a distillation token.

P moves by the Cayley transform from a random orthogonal start Q, with a free matrix X of P's shape:

    P = (I − A/2)⁻¹(I + A/2)·Q,   A = X·Qᵀ − Q·Xᵀ

The authors' code takes the matrix exponential or Householder reflections, whose gradients cost seconds a step at
2,048 × 1,280. I − A/2 is never singular, as A is skew.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.registry import register_method
from models import Features


def normalised_loss(projected: Tensor, e_t: Tensor) -> Tensor:
    """Mean smooth-L1 distance of projected embeddings B×D from the teacher's, whose rows are standardised."""
    return F.smooth_l1_loss(projected, F.layer_norm(e_t, e_t.shape[1:]))


class OrthogonalProjection(nn.Module):
    """B×`width_in` → B×`width_out` by a matrix with orthonormal columns, or rows if there are fewer of them."""

    start: Tensor  # Q, longer×shorter

    def __init__(self, width_in: int, width_out: int):
        super().__init__()
        self.narrows = width_in > width_out
        longer, shorter = max(width_in, width_out), min(width_in, width_out)
        self.register_buffer("start", torch.linalg.qr(torch.randn(longer, shorter)).Q)
        self.move = nn.Parameter(torch.zeros(longer, shorter))

    def matrix(self) -> Tensor:
        """P, `width_out`×`width_in`."""
        q = self.start
        skew = self.move @ q.T
        half = (skew - skew.T) / 2
        identity = torch.eye(len(half), dtype=half.dtype, device=half.device)
        # Not `solve`, which would wait for the device to ask whether the matrix is singular.
        moved, _ = torch.linalg.solve_ex(identity - half, q + half @ q)
        return moved.T if self.narrows else moved

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix().T


@register_method("vkd")
class VkD(Method):
    """The teacher's standardised embedding through an orthogonal projection of the student's."""

    paper = "Miles et al., VkD: Improving Knowledge Distillation using Orthogonal Projections, CVPR 2024"
    weights = Weights(gamma=1, alpha=1, beta=1)
    weights_from = "the authors' for ImageNet, where KL is at temperature 1: add `--kd_T 1`"
    needs = ("embedding",)
    reads_teacher_logits = False

    def __init__(self, pair: Pair):
        super().__init__(pair)
        self.project = OrthogonalProjection(pair.student.embedding, pair.teacher.embedding)

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return normalised_loss(self.project(student.embedding), teacher.embedding)
