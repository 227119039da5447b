"""RKD: Relational Knowledge Distillation (Park et al., CVPR 2019, arXiv:1904.05068), eq. 5-8.

Distances between pairs and angles between triples of embeddings, compared by the Huber loss:

    L = w_d · huber(d_s / mean d_s, d_t / mean d_t) + w_a · huber(cos∠_s, cos∠_t)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import PartWeight
from distiller_zoo.registry import register_method
from models import Features

EPS = 1e-12


def relative_distances(e: Tensor) -> Tensor:
    """B×B Euclidean distances between embeddings (B×D) over the mean of the positive ones; zero diagonal."""
    squares = e.square().sum(dim=1)
    squared = (squares[:, None] + squares[None, :] - 2 * e @ e.T).clamp(min=EPS)
    distances = squared.sqrt() * (1 - torch.eye(len(e), device=e.device, dtype=e.dtype))
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)  # a batch of one has no distances
    return distances / mean.clamp(min=EPS)


def angles(e: Tensor) -> Tensor:
    """B×B×B cosines: entry (i, j, k) is that of the angle at i between j and k, for embeddings B×D."""
    to_others = F.normalize(e[None, :, :] - e[:, None, :], dim=2)
    return to_others @ to_others.transpose(1, 2)


def distance_loss(e_s: Tensor, e_t: Tensor) -> Tensor:
    """Huber loss between the relative distances of B×D and B×D' embeddings of student and teacher."""
    return F.smooth_l1_loss(relative_distances(e_s), relative_distances(e_t))


def angle_loss(e_s: Tensor, e_t: Tensor) -> Tensor:
    """Huber loss between the angles of B×D and B×D' embeddings of student and teacher."""
    return F.smooth_l1_loss(angles(e_s), angles(e_t))


@register_method("rkd")
class RKD(Method):
    """Relations between the embeddings of a batch.

    Options:
        rkd_distance: weight of the distances between two samples within the method's loss.
        rkd_angle: weight of the angles between three samples within the method's loss.
    """

    paper = "Park et al., Relational Knowledge Distillation, CVPR 2019"
    weights = Weights(gamma=1, alpha=0, beta=1)
    needs = ("embedding",)
    reads_teacher_logits = False

    def __init__(self, pair: Pair, *, rkd_distance: PartWeight = 25.0, rkd_angle: PartWeight = 50.0):
        super().__init__(pair)
        self.distance_weight, self.angle_weight = rkd_distance, rkd_angle

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        e_s, e_t = student.embedding, teachers[0].embedding
        return {
            "rkd_distance": self.distance_weight * distance_loss(e_s, e_t),
            "rkd_angle": self.angle_weight * angle_loss(e_s, e_t),
        }
