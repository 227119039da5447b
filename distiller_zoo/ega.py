"""EGA: Distilling Knowledge from Self-Supervised Teacher by Embedding Graph Alignment (Ma, Chen, Akata, BMVC 2022,
arXiv:2211.13264).

A batch is a graph: samples are nodes, Pearson correlations between their embeddings are edges. Student's and
teacher's edges shall be the same, and each node shall be like its own partner and unlike the others:

    L = w_n·‖R(s, t) − I‖_F + w_e·‖R(s, s) − R(t, t)‖_F,   R(a, b)_ij = correlation of row i of a and row j of b

Weights are the defaults of the authors' command line (distillers, of Giakoumoglou and Stathaki, has 1 and 0.3: the
same ratio). Their teacher is CLIP, followed by a layer that is trained as a classifier; a teacher of this suite is
trained already. Where the widths differ the student is projected linearly to the teacher's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import PartWeight
from distiller_zoo.registry import register_method
from models import Features


def correlations(a: Tensor, b: Tensor) -> Tensor:
    """A×B Pearson correlations between the rows of embeddings A×D and B×D."""
    a, b = (F.normalize(e - e.mean(dim=1, keepdim=True)) for e in (a, b))
    return a @ b.T


def node_loss(e_s: Tensor, e_t: Tensor) -> Tensor:
    """Frobenius distance of the correlations between student and teacher (B×D each) from the identity."""
    return (correlations(e_s, e_t) - torch.eye(len(e_s), dtype=e_s.dtype, device=e_s.device)).norm()


def edge_loss(e_s: Tensor, e_t: Tensor) -> Tensor:
    """Frobenius distance of the correlations within the student (B×D) and within the teacher (B×D')."""
    return (correlations(e_s, e_s) - correlations(e_t, e_t)).norm()


@register_method("ega")
class EGA(Method):
    """Alignment of the graphs of a batch.

    Options:
        ega_node: w_n, weight of the nodes within the method's loss.
        ega_edge: w_e, weight of the edges within the method's loss.
    """

    paper = "Ma et al., Distilling Knowledge from Self-Supervised Teacher by Embedding Graph Alignment, BMVC 2022"
    weights = Weights(gamma=1, alpha=0, beta=1)
    weights_from = "the defaults of the authors' command line, which has CLIP as the teacher"
    needs = ("embedding",)
    reads_teacher_logits = False

    def __init__(self, pair: Pair, *, ega_node: PartWeight = 0.8, ega_edge: PartWeight = 0.24):
        super().__init__(pair)
        width_s, width_t = pair.student.embedding, pair.teacher.embedding
        self.node_weight, self.edge_weight = ega_node, ega_edge
        self.project = nn.Identity() if width_s == width_t else nn.Linear(width_s, width_t)

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        e_s, e_t = self.project(student.embedding), teachers[0].embedding
        return {
            "ega_node": self.node_weight * node_loss(e_s, e_t),
            "ega_edge": self.edge_weight * edge_loss(e_s, e_t),
        }
