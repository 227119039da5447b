"""Learning curves of runs: test accuracy after each epoch, mean and band over trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Band = Literal["range", "std"]


@dataclass(frozen=True)
class Curve:
    """Mean over `n` trials for each epoch on record, and the band from `low` to `high`; top-1 in per cent."""

    label: str
    epochs: np.ndarray
    n: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curve_of(label: str, histories: Sequence[Mapping[int, float]], band: Band) -> Curve:
    """Returns the curve of some trials.

    Args:
        histories: {epoch: top-1 in per cent} of each trial.
        band: "range" from the least to the greatest, "std" one sample standard deviation about the mean (no band for
            one trial).
    """
    epochs = sorted(set().union(*histories))
    values = [np.array([history[epoch] for history in histories if epoch in history]) for epoch in epochs]
    mean = np.array([v.mean() for v in values])
    if band == "range":
        low, high = np.array([v.min() for v in values]), np.array([v.max() for v in values])
    else:
        std = np.array([v.std(ddof=1) if len(v) > 1 else 0.0 for v in values])
        low, high = mean - std, mean + std
    return Curve(label, np.array(epochs), np.array([len(v) for v in values]), mean, low, high)
