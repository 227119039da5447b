"""Linear centred kernel alignment between layers of two networks, batch by batch.

CKA(X, Y) = HSIC(K, L) / √(HSIC(K, K)·HSIC(L, L)) with the Gram matrices K = XXᵀ and L = YYᵀ (Kornblith et al.,
Similarity of Neural Network Representations Revisited, ICML 2019). HSIC is estimated without bias (Song et al., Feature
Selection via Dependence Maximization, JMLR 2012) in each batch, and averaged over batches before dividing, as Nguyen
et al., Do Wide and Deep Networks Learn the Same Things?, ICLR 2021, do; so no maps need be stored, and the batch size
changes the noise of the estimate but not what it estimates.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SMALLEST_BATCH = 4  # the estimate divides by B − 3


def centred_gram(features: Tensor) -> Tensor:
    """The Gram matrix of a batch with zeros on the diagonal, so centred that its products are unbiased (`hsic`).

    Székely & Rizzo, Partial Distance Correlation with Methods for Dissimilarities, 2014, call it U-centring.

    Args:
        features: B×..., with B ≥ 4; all but the first dimension are flattened.

    Returns:
        float64 B×B.
    """
    flat = features.flatten(1).float()
    if torch.equal(flat, flat[:1].expand_as(flat)):  # the rounding error of a constant would correlate with everything
        return torch.zeros(len(flat), len(flat), dtype=torch.float64, device=flat.device)
    flat = flat - flat.mean(dim=0)  # only improves the rounding: activations may be far from zero
    gram = (flat @ flat.T).double().fill_diagonal_(0)
    n = len(gram)
    rows = gram.sum(dim=1) / (n - 2)
    gram = gram - rows[:, None] - rows[None, :] + rows.sum() / (n - 1)
    return gram.fill_diagonal_(0)


def hsic(one: Tensor, other: Tensor) -> Tensor:
    """The unbiased estimate of HSIC from two centred Gram matrices of the same B images (Song et al., equation 5)."""
    n = len(one)
    return (one * other).sum() / (n * (n - 3))


class MeanCka:
    """CKA between T layers of one network and S layers of another, averaged over batches of images."""

    def __init__(self):
        self._cross: Tensor | float = 0.0
        self._own: tuple[Tensor | float, Tensor | float] = 0.0, 0.0

    def add(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> None:
        """Add a batch, given the centred Gram matrices (`centred_gram`) of both networks' layers."""
        images = len(teacher[0])  # batches weigh by their size
        self._cross += images * torch.stack([torch.stack([hsic(t, s) for s in student]) for t in teacher])
        self._own = tuple(
            total + images * torch.stack([hsic(gram, gram) for gram in grams])
            for total, grams in zip(self._own, (teacher, student), strict=True)
        )

    def matrix(self) -> np.ndarray:
        """CKA of T×S layers, float64, at most 1. It may be negative (unbiased), and is 0 for a constant layer."""
        of_teacher, of_student = self._own
        scale = (of_teacher[:, None] * of_student[None, :]).sqrt()
        cka = torch.where(scale > 0, self._cross / torch.where(scale > 0, scale, 1), 0)
        return cka.cpu().numpy()


def cka(one: Tensor, other: Tensor) -> float:
    """Linear CKA of two layers' outputs for the same images, B×... each, from one batch."""
    mean = MeanCka()
    mean.add([centred_gram(one)], [centred_gram(other)])
    return float(mean.matrix()[0, 0])
