"""Statistics of trials and of pairs: tests of a difference, ranks, relative improvement. NaN where undefined.

Figures are percentages. A method's figures are one per trial; nothing here assumes that trials of two methods pair up.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9999
BOOTSTRAP_TRIALS = 5  # fewer give few distinct samples, and with them an interval that is far too narrow
TOO_FEW, NO_SPREAD, SHARED_SEEDS, TESTED = "n too small", "no spread", "shared seeds", "welch"


class Difference(NamedTuple):
    """The difference of two means.

    Attributes:
        verdict: TESTED; TOO_FEW where a side has fewer than 2 trials; NO_SPREAD where neither side varies at all;
            SHARED_SEEDS where trials repeat a seed, which the caller knows.
        p: two-sided p-value, NaN unless TESTED.
        low, high: Welch's interval of the difference (CONFIDENCE), which excludes 0 where p < 1 − CONFIDENCE; NaN
            unless TESTED.
        bootstrap_low, bootstrap_high: bootstrap interval (CONFIDENCE, percentile method); NaN where a side has fewer
            than BOOTSTRAP_TRIALS.
    """

    verdict: str
    p: float = np.nan
    low: float = np.nan
    high: float = np.nan
    bootstrap_low: float = np.nan
    bootstrap_high: float = np.nan


def compare_means(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Tests mean(one) − mean(other) by Welch's t-test (Biometrika 1947: variances may differ) and by the bootstrap."""
    if min(len(one), len(other)) < 2:
        return Difference(TOO_FEW)
    # Equal figures differ by rounding alone, and a deviation of 1e-15 would make any difference significant.
    if max(np.std(one), np.std(other)) < 1e-9:
        return Difference(NO_SPREAD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one side without spread is fine: the other has some
        test = stats.ttest_ind(one, other, equal_var=False)
    interval = test.confidence_interval(CONFIDENCE)
    welch = Difference(TESTED, float(test.pvalue), float(interval.low), float(interval.high))
    if min(len(one), len(other)) < BOOTSTRAP_TRIALS:
        return welch
    low, high = bootstrap_interval(one, other)
    return welch._replace(bootstrap_low=low, bootstrap_high=high)


def bootstrap_interval(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Returns the interval of mean(one) − mean(other); each side is resampled alone, always by the same numbers."""
    low, high = stats.bootstrap(
        (np.asarray(one, dtype=float), np.asarray(other, dtype=float)),
        _difference,
        n_resamples=RESAMPLES,
        vectorized=True,
        method="percentile",
        confidence_level=CONFIDENCE,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(low), float(high)


def _difference(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
    return one.mean(axis=axis) - other.mean(axis=axis)


def holm(p_values: Sequence[float], comparisons: int = 0) -> np.ndarray:
    """Returns p-values corrected for their number (Holm, Scandinavian Journal of Statistics 1979); NaN is no test.

    The k-th smallest of m is multiplied by m − k + 1, may not be below one before it, and is at most 1. All values
    count in m, NaN too: which comparisons were tested may depend on their figures, if only leaders got more trials.

    Args:
        comparisons: m where it is more than the number of values, because some were left out.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")  # NaN comes last
    order = order[: np.count_nonzero(~np.isnan(p))]
    corrected = np.full(p.shape, np.nan)
    factors = max(comparisons, p.size) - np.arange(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


def sampling_error(percentage: float, images: float) -> float:
    """Returns the standard error (points) of an accuracy measured on so many images: 100·sqrt(p(1 − p)/n)."""
    p = percentage / 100
    return float(100 * np.sqrt(p * (1 - p) / images))


def as_printed(figures: ArrayLike) -> np.ndarray:
    """Returns the figures to the two decimals that tables show; NumPy's own rounding differs from that of texts."""
    return np.vectorize(lambda figure: round(float(figure), 2), otypes=[float])(figures)


def gap_recovered(method: float, student: float, teacher: float) -> float:
    """Returns 100 · (method − student) / (teacher − student), in per cent; NaN where the teacher is not the better one.

    Figures that print alike are equal: a gap of rounding alone would make any share of it.
    """
    return 100 * (method - student) / (teacher - student) if as_printed(teacher) > as_printed(student) else np.nan


def average_ranks(figures: np.ndarray) -> np.ndarray:
    """Returns each method's mean rank over pairs, 1 for the best; equal figures share the mean of their ranks.

    Args:
        figures: methods × pairs, without NaN. Compared as printed, to two decimals.
    """
    return stats.rankdata(-as_printed(figures), axis=0).mean(axis=1)


def average_relative_improvement(method: ArrayLike, reference: ArrayLike, student: ArrayLike) -> float:
    """Returns the average relative improvement (ARI), in per cent, over pairs i.

    Chen et al., Cross-Layer Distillation with Semantic Calibration, AAAI 2021:

    ARI = 100/M · Σ_i (method_i − reference_i) / (reference_i − student_i)

    NaN where the reference gains nothing, as printed, over the student on some pair: the quotient says nothing there.
    """
    method_i, reference_i, student_i = (np.asarray(values, dtype=float) for values in (method, reference, student))
    if not len(method_i) or not (as_printed(reference_i) > as_printed(student_i)).all():
        return np.nan
    return float(100 * np.mean((method_i - reference_i) / (reference_i - student_i)))
