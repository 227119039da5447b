"""ICD, later named DCD: Discriminative and Consistent Representation Distillation (Giakoumoglou, Stathaki, 2024,
arXiv:2407.11802).

Unit embeddings z_s, z_t of a batch, compared without any memory:

    S_ij = s·⟨z_s_i, z_t_j⟩ + b,   s = min(exp t, 10)
    L = CE over rows of S, the partner on the diagonal  +  w·KL( softmax over columns of S, transposed ‖ over rows )

t (first 1, so s = e) and b (first 0) are trained with the embeddings. No softmax sees a number that is added to all
scores, so b gets a gradient of zero and stays where it is; it is kept because it is published.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.contrast import info_nce
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Weight, Width
from distiller_zoo.registry import register_method
from models import Features

INITIAL_T = 1.0
MAX_SCALE = 10.0


def invariance_loss(scores: Tensor) -> Tensor:
    """KL(softmax over columns ‖ softmax over rows) of B×B scores (student × teacher), in nats, mean over the batch."""
    of_student, of_teacher = scores.log_softmax(dim=1), scores.T.log_softmax(dim=1)
    return F.kl_div(of_student, of_teacher, reduction="batchmean", log_target=True)


@register_method("icd", aliases=("dcd",))
class ICD(Method):
    """In-batch contrast with a learned scale, and agreement of both views of it.

    Options:
        feat_dim: width of the common embedding space.
        icd_alpha: w, weight of the invariance within the method's loss.
    """

    paper = "Giakoumoglou & Stathaki, Discriminative and Consistent Representation Distillation, 2024"
    weights = Weights(gamma=1, alpha=0, beta=1)
    needs = ("embedding",)
    reads_teacher_logits = False

    def __init__(self, pair: Pair, *, feat_dim: Width = 128, icd_alpha: Weight = 0.5):
        super().__init__(pair)
        self.alpha = icd_alpha
        self.embed_s = nn.Linear(pair.student.embedding, feat_dim)
        self.embed_t = nn.Linear(pair.teacher.embedding, feat_dim)
        self.t = nn.Parameter(torch.tensor(INITIAL_T))
        self.b = nn.Parameter(torch.tensor(0.0))

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        z_s = F.normalize(self.embed_s(student.embedding))
        z_t = F.normalize(self.embed_t(teachers[0].embedding))
        scores = z_s @ z_t.T * self.t.exp().clamp(max=MAX_SCALE) + self.b
        return {"icd_contrast": info_nce(scores), "icd_invariance": self.alpha * invariance_loss(scores)}
