"""The statistics of comparison tables against computations that share nothing with them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from reporting.tables.statistics import (
    NO_SPREAD,
    TESTED,
    TOO_FEW,
    as_printed,
    average_ranks,
    average_relative_improvement,
    compare_means,
    gap_recovered,
    holm,
)

percentages = st.floats(0, 100).map(lambda value: round(value, 2))


def welch_by_hand(one, other):
    """Two-sided p-value from Welch's formulas and the integral of Student's density."""
    a, b = np.var(one, ddof=1) / len(one), np.var(other, ddof=1) / len(other)
    t = abs(np.mean(one) - np.mean(other)) / math.sqrt(a + b)
    df = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(other) - 1))
    scale = math.gamma((df + 1) / 2) / (math.sqrt(df * math.pi) * math.gamma(df / 2))
    inside, _ = integrate.quad(lambda x: scale * (1 + x * x / df) ** (-(df + 1) / 2), 0, t)
    return 1 - 2 * inside


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([75.1, 75.5, 75.3], [73.2, 73.6, 73.1]),
        ([70.0, 71.0], [70.4, 70.2, 70.9, 70.1]),
        ([60.0, 60.0], [60.3, 59.9, 60.2]),  # one side without spread
    ],
)
def test_welch_agrees_with_its_formulas(one, other):
    found = compare_means(one, other)
    assert found.verdict == TESTED
    assert found.p == pytest.approx(welch_by_hand(one, other), abs=1e-7)
    assert found.p == pytest.approx(compare_means(other, one).p, abs=1e-12)


def test_fewer_than_two_trials_are_too_few_and_equal_ones_have_no_spread():
    for one, other in (([75.0], [73.0, 74.0]), ([75.0, 76.0], [73.0]), ([], [1.0, 2.0])):
        found = compare_means(one, other)
        assert found.verdict == TOO_FEW
        assert np.isnan([found.p, found.low, found.high]).all()
    found = compare_means([0.1 + 0.2, 0.3], [70.0, 70.0])
    assert found.verdict == NO_SPREAD
    assert np.isnan(found[1:]).all()


@pytest.mark.parametrize("shift", [0.0, 0.4, 0.8, 1.2])
def test_the_interval_excludes_zero_exactly_where_p_is_below_five_per_cent(shift):
    one, other = np.array([75.1, 75.9, 75.3]) + shift, [75.2, 76.0, 75.1, 75.4]
    found = compare_means(one, other)
    assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
    assert found.low + found.high == pytest.approx(2 * (np.mean(one) - np.mean(other)))
    a, b = np.var(one, ddof=1) / 3, np.var(other, ddof=1) / 4
    df = (a + b) ** 2 / (a**2 / 2 + b**2 / 3)
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, df) * math.sqrt(a + b))


def test_the_bootstrap_interval_is_the_one_of_all_resamples_and_takes_five_trials():
    one, other = [75.1, 75.9, 75.3, 75.2, 75.6], [73.2, 74.0, 73.1, 73.5, 73.7]
    means = [[np.mean(sample) for sample in itertools.product(values, repeat=5)] for values in (one, other)]
    differences = np.subtract.outer(*means).ravel()  # all 3125 × 3125, equally likely
    found = compare_means(one, other)
    expected = pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.05)
    assert (found.bootstrap_low, found.bootstrap_high) == expected
    assert found == compare_means(one, other)
    assert np.isnan(compare_means(one, other[:4])[4:]).all()


def holm_by_hand(p_values):
    """Step by step as in the paper: stop rejecting at the first that fails, expressed as adjusted p-values."""
    adjusted, largest = [None] * len(p_values), 0.0
    left = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for done, i in enumerate(left):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def test_holm_on_an_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).size == 0


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_agrees_with_the_steps_and_only_raises(p_values):
    corrected = holm(p_values)
    assert list(corrected) == pytest.approx(holm_by_hand(p_values))
    assert (corrected >= p_values).all()
    assert (corrected <= 1).all()
    if p_values:  # rejecting at 5 %: never more than without a correction, never fewer than by Bonferroni's
        bonferroni = np.multiply(p_values, len(p_values)) <= 0.05
        assert ((corrected <= 0.05) >= bonferroni).all()


@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=8))
def test_holm_counts_what_was_not_tested(p_values):
    """As though it had come out as badly as can be: who got enough trials may hang on the first one's figure."""
    untested = np.isnan(p_values)
    corrected = holm(p_values)
    assert list(corrected[~untested]) == pytest.approx(
        np.array(holm_by_hand(np.nan_to_num(p_values, nan=1)))[~untested]
    )
    assert np.isnan(corrected[untested]).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(0, 12))
def test_holm_counts_what_the_table_does_not_show(p_values, comparisons):
    padded = p_values + [1.0] * (comparisons - len(p_values))
    assert list(holm(p_values, comparisons)) == pytest.approx(holm_by_hand(padded)[: len(p_values)])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_figures_are_rounded_as_texts_are(figures):
    assert [f"{figure:.2f}" for figure in as_printed(figures)] == [f"{figure:.2f}" for figure in figures]
    assert as_printed([27.935, math.nan])[0] == 27.93  # NumPy's rounding says 27.94


def test_the_gap_recovered():
    assert gap_recovered(75.5, 72.5, 79.5) == pytest.approx(300 / 7)
    assert gap_recovered(71.5, 72.5, 74.5) == pytest.approx(-50)
    assert np.isnan(gap_recovered(75.0, 72.5, 72.5))
    assert np.isnan(gap_recovered(75.0, 72.5, 70.0))
    assert np.isnan(gap_recovered(75.0, math.nan, 79.0))


def test_average_relative_improvement_on_an_example():
    # (76 − 74)/(74 − 72) = 1 and (71 − 70.5)/(70.5 − 69.5) = 0.5
    found = average_relative_improvement([76.0, 71.0], [74.0, 70.5], [72.0, 69.5])
    assert found == pytest.approx(75.0)
    assert np.isnan(average_relative_improvement([76.0, 71.0], [74.0, 69.5], [72.0, 69.5]))
    assert np.isnan(average_relative_improvement([], [], []))


@given(st.lists(st.lists(percentages, min_size=3, max_size=3), min_size=1, max_size=6))
def test_average_ranks_agree_with_counting(figures):
    ranks = average_ranks(np.array(figures))
    for method, row in enumerate(figures):
        counted = [
            1 + sum(other[i] > row[i] for other in figures) + (sum(other[i] == row[i] for other in figures) - 1) / 2
            for i in range(3)
        ]
        assert ranks[method] == pytest.approx(np.mean(counted))
    assert ranks.mean() == pytest.approx((len(figures) + 1) / 2)
