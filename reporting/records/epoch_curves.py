"""Learning curves from the records of runs: test accuracy after each epoch, mean and band over trials."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reporting.records.untrusted_json import percentage_or_none

Band = Literal["range", "std"]


@dataclass(frozen=True)
class Curve:
    """One line: for each epoch on record the mean over `n` trials, and the band from `low` to `high`; top-1 in %."""

    label: str
    epochs: np.ndarray
    n: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def history_of(lines: Iterable[Mapping]) -> dict[int, float]:
    """{epoch: test top-1 in %} of a run's metrics (see `Run.metrics`), in the order of the epochs.

    Lines that do not say are passed over, and of an epoch told twice the last counts.
    """
    found = {}
    for line in lines:
        epoch, test = line.get("epoch"), line.get("test")
        top1 = percentage_or_none(test.get("top1")) if isinstance(test, dict) else None
        if top1 is not None and isinstance(epoch, int) and not isinstance(epoch, bool) and 0 <= epoch < 10**9:
            found[epoch] = top1
    return dict(sorted(found.items()))


def curve_of(label: str, histories: Sequence[Mapping[int, float]], band: Band) -> Curve:
    """The line of trials that are each given as {epoch: top-1}.

    Args:
        band: "range" from the least to the greatest, "std" one sample standard deviation about the mean (none for one
            trial).
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
