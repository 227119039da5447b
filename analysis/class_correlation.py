"""Correlations between the logits of classes, and their difference between two networks.

Tian et al., Contrastive Representation Distillation, ICLR 2020, show this difference for students of several methods.
"""

import numpy as np


def class_correlation(logits: np.ndarray) -> np.ndarray:
    """Pearson's correlation between the logits of every two classes, over the images.

    A constant logit has correlation 0 with every other class.

    Args:
        logits: N×K.

    Returns:
        float64 K×K, symmetric, ones on the diagonal.
    """
    centred = logits.astype(np.float64) - logits.mean(axis=0, dtype=np.float64)
    norms = np.linalg.norm(centred, axis=0)
    # The mean of equal numbers has a rounding error, so a centred constant need not be zero.
    constant = np.ptp(logits, axis=0) == 0
    unit = np.where(constant, 0, centred / np.where(constant, 1, norms))
    correlation = np.clip(unit.T @ unit, -1, 1)
    np.fill_diagonal(correlation, 1)
    return correlation


def mean_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean of |one − other| over the K(K−1)/2 pairs of classes, from 0 (equal) to 2."""
    pairs = np.triu_indices(len(one), k=1)
    return float(np.abs(one - other)[pairs].mean())
