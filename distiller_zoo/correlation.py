"""CC: Correlation Congruence for Knowledge Distillation (Peng et al., ICCV 2019, arXiv:1904.01802).

What the published tables measure is not the paper's formula but code that its authors gave to RepDistiller's; it is
the default. Differences δ_i = |E_s(e_s) − E_t(e_t)|, both linear embeddings E trained, multiplied for neighbours in
the batch:

    L = mean_{i<B} Σ_k δ_{i,k}·δ_{i+1,k}

The paper (`--cc_form paper`) compares the B×B correlations of a batch, in the Gaussian kernel by its Taylor series:

    K(e)_ij = exp(−2γ) Σ_{p≤P} (2γ)^p/p! · (x_i·x_j)^p,  x = e/‖e‖,    L = ‖K(e_s) − K(e_t)‖²_F / B²
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import OnlyWith, Range, Width
from distiller_zoo.registry import register_method
from models import Features


def neighbours_loss(e_s: Tensor, e_t: Tensor) -> Tensor:
    """Mean over neighbours in the batch of the product of their absolute differences; both inputs B×D."""
    difference = (e_s - e_t).abs()
    return (difference[:-1] * difference[1:]).sum() / max(len(difference) - 1, 1)


def taylor_kernel(e: Tensor, gamma: float, order: int) -> Tensor:
    """B×B Gaussian kernel exp(−γ‖x_i − x_j‖²) of the directions x of embeddings B×D, to the given order."""
    unit = F.normalize(e)
    cosines = unit @ unit.T
    powers = (cosines**p * ((2 * gamma) ** p / math.factorial(p)) for p in range(1, order + 1))
    return math.exp(-2 * gamma) * sum(powers, start=torch.ones_like(cosines))


def congruence_loss(e_s: Tensor, e_t: Tensor, gamma: float, order: int) -> Tensor:
    """Mean squared difference of the kernels of B×D and B×D' embeddings."""
    return F.mse_loss(taylor_kernel(e_s, gamma, order), taylor_kernel(e_t, gamma, order))


@register_method("correlation", aliases=("cc",))
class Correlation(Method):
    """Match the correlation between the samples of a batch.

    Options:
        cc_form: the loss of the published tables (`repdistiller`) or the paper's.
        feat_dim: width of the common embedding space in the form `repdistiller`.
        cc_gamma: γ, inverse width of the Gaussian kernel in the form `paper`.
        cc_order: P, highest power in the kernel's Taylor series in the form `paper`.
    """

    paper = "Peng et al., Correlation Congruence for Knowledge Distillation, ICCV 2019"
    weights = Weights(gamma=1, alpha=0, beta=0.02)
    needs = ("embedding",)
    reads_teacher_logits = False

    def __init__(
        self,
        pair: Pair,
        *,
        cc_form: Literal["repdistiller", "paper"] = "repdistiller",
        feat_dim: Annotated[Width, OnlyWith("cc_form", ("repdistiller",))] = 128,
        cc_gamma: Annotated[float, Range(0, 1e3, open_below=True), OnlyWith("cc_form", ("paper",))] = 0.4,
        cc_order: Annotated[int, Range(1, 100), OnlyWith("cc_form", ("paper",))] = 2,
    ):
        super().__init__(pair)
        self.embed_s: nn.Module = nn.Identity()
        self.embed_t: nn.Module = nn.Identity()
        self.compare: Callable[[Tensor, Tensor], Tensor] = partial(congruence_loss, gamma=cc_gamma, order=cc_order)
        if cc_form == "repdistiller":
            self.embed_s = nn.Linear(pair.student.embedding, feat_dim)
            self.embed_t = nn.Linear(pair.teacher.embedding, feat_dim)
            self.compare = neighbours_loss

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        return self.compare(self.embed_s(student.embedding), self.embed_t(teacher.embedding))
