"""Learning curves of runs: test accuracy after each epoch, mean and band over trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

LEADING = 5  # curves that a chart of many shows, beside what they are compared with
Band = Literal["range", "std"]


@dataclass(frozen=True)
class Curve:
    """Mean over `n` trials for each epoch on record, and the band from `low` to `high`; top-1 in per cent.

    `last_of_trials` has the figure of each trial after its last epoch on record.
    """

    label: str
    epochs: np.ndarray
    n: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    last_of_trials: tuple[float, ...] = ()


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
    last = tuple(history[max(history)] for history in histories)
    return Curve(label, np.array(epochs), np.array([len(v) for v in values]), mean, low, high, last)


def fits_beside(level: float, low: float, high: float) -> bool:
    """Returns whether a line at `level` leaves the figures from `low` to `high` at least half of an axis."""
    room = max(high - low, 1.0)
    return low - room <= level <= high + room


def leading_labels(labels: Sequence[str], figures: Sequence[float], always: Sequence[str]) -> set[str]:
    """Returns the labels of the curves that a chart shows first: all of a few, else the best and those of `always`.

    Args:
        figures: what each label is ranked by, the highest being the best.
    """
    if len(labels) <= LEADING + len(always):
        return set(labels)
    others = [(-figure, label) for label, figure in zip(labels, figures, strict=True) if label not in always]
    return {label for _, label in sorted(others)[:LEADING]} | (set(always) & set(labels))
