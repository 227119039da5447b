"""How alike two networks relate the classes to each other, by the correlations between their logits.

Tian et al., Contrastive Representation Distillation, ICLR 2020, show this difference for students of several methods.
"""

import numpy as np


def class_correlation(logits: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each two classes' logits over the images.

    A class whose logit never changes correlates with no other.

    Args:
        logits: N×K.

    Returns:
        float64 K×K, symmetric, ones on the diagonal.
    """
    centred = logits.astype(np.float64) - logits.mean(axis=0, dtype=np.float64)
    norms = np.linalg.norm(centred, axis=0)
    # The mean of equal numbers is off by rounding, so that a constant leaves a little behind.
    constant = np.ptp(logits, axis=0) == 0
    unit = np.where(constant, 0, centred / np.where(constant, 1, norms))
    correlation = np.clip(unit.T @ unit, -1, 1)
    np.fill_diagonal(correlation, 1)
    return correlation


def mean_difference(one: np.ndarray, other: np.ndarray) -> float:
    """The mean of |one − other| over the K(K−1)/2 pairs of classes; from 0 (the same) to 2."""
    pairs = np.triu_indices(len(one), k=1)
    return float(np.abs(one - other)[pairs].mean())
