"""ITRD: Information Theoretic Representation Distillation (Miles, Lopez-Rodriguez, Mikolajczyk, BMVC 2022,
arXiv:2112.00459).

    L = w_c·log₂ Σ_d |c_d − 1|^2α  +  w_m·( ‖G_s‖² − ‖G_s ∘ G_t‖² )

c_d is the correlation over the batch between channel d of the embedded student and of the teacher, G the Gram matrix
of embeddings of unit length; each matrix is divided by its trace. The student is embedded linearly into the teacher's
width; in the second part only where the widths differ. As in the authors' code, c_d has n − 1 in its deviations and n
before its sum: it ends at (n − 1)/n, and the logarithm of a perfect match stays finite.

Defaults are those of the authors' command line; for wrn_40_2 → wrn_16_2 their README has --itrd_mutual 1
--itrd_alpha 1.01.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Exponent, PartWeight
from distiller_zoo.registry import register_method
from models import Features

MIN_VARIANCE = 1e-8  # of a channel that is constant over the batch
EPS = 1e-12


def channel_correlations(e_s: Tensor, e_t: Tensor) -> Tensor:
    """D correlations over the batch of embeddings B×D; at most (B − 1)/B."""
    batch = len(e_s)
    standardised = []
    for e in (e_s, e_t):
        centred = e - e.mean(dim=0)
        variance = centred.square().sum(dim=0) / max(batch - 1, 1)
        standardised.append(centred / variance.clamp(min=MIN_VARIANCE).sqrt())
    return (standardised[0] * standardised[1]).sum(dim=0) / batch


def correlation_loss(e_s: Tensor, e_t: Tensor, alpha: float) -> Tensor:
    """log₂ Σ |c − 1|^2α for embeddings B×D; for equal ones log₂ D − 2α·log₂ B."""
    return (channel_correlations(e_s, e_t) - 1).square().pow(alpha).sum().log2()


def gram_matrix(e: Tensor) -> Tensor:
    """B×B cosines of embeddings B×D."""
    unit = F.normalize(e)
    return unit @ unit.T


def mutual_loss(e_s: Tensor, e_t: Tensor) -> Tensor:
    """‖G_s‖² − ‖G_s ∘ G_t‖², each matrix of trace 1; widths may differ."""
    g_s = gram_matrix(e_s)
    joint = g_s * gram_matrix(e_t)
    single, both = (g / g.trace().clamp(min=EPS) for g in (g_s, joint))
    return single.square().sum() - both.square().sum()


@register_method("itrd")
class ITRD(Method):
    """Correlation of channels and mutual information of samples, between the embeddings.

    Options:
        itrd_corr: w_c, weight of the correlation within the method's loss.
        itrd_mutual: w_m, weight of the mutual information within the method's loss.
        itrd_alpha: α, order of the entropy behind the correlation.
    """

    paper = "Miles et al., Information Theoretic Representation Distillation, BMVC 2022"
    weights = Weights(gamma=1, alpha=0, beta=1)
    needs = ("embedding",)
    reads_teacher_logits = False

    def __init__(
        self, pair: Pair, *, itrd_corr: PartWeight = 2.0, itrd_mutual: PartWeight = 0.05, itrd_alpha: Exponent = 1.5
    ):
        super().__init__(pair)
        self.corr_weight, self.mutual_weight, self.alpha = itrd_corr, itrd_mutual, itrd_alpha
        width_s, width_t = pair.student.embedding, pair.teacher.embedding
        self.widths_differ = width_s != width_t
        self.embed = nn.Linear(width_s, width_t)

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        e_s, e_t = student.embedding, teachers[0].embedding
        embedded = self.embed(e_s)
        return {
            "itrd_corr": self.corr_weight * correlation_loss(embedded, e_t, self.alpha),
            "itrd_mutual": self.mutual_weight * mutual_loss(embedded if self.widths_differ else e_s, e_t),
        }
