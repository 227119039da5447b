"""Correlations between classes, against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.class_correlation import class_correlation, mean_difference
from tests.numerics import normal, seeds

few = settings(max_examples=20)


@few
@given(seeds, st.integers(3, 60), st.integers(2, 12))
def test_class_correlation_is_numpys(seed, images, classes):
    logits = normal(images, classes, seed=seed).float().numpy() * 3 + 5
    expected = np.corrcoef(logits.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(class_correlation(logits), expected, atol=1e-12)


@few
@given(seeds, st.floats(0.01, 100), st.floats(-100, 100))
def test_class_correlation_ignores_scale_and_shift_of_a_class(seed, scale, shift):
    logits = normal(40, 5, seed=seed).numpy()
    changed = logits * [scale, 1, 1, 1, 1] + [shift, 0, 0, 0, 0]
    np.testing.assert_allclose(class_correlation(changed), class_correlation(logits), atol=1e-9)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3])
def test_a_class_whose_logit_never_changes_correlates_with_none(constant):
    logits = normal(1000, 4, seed=0).float().numpy()
    logits[:, 2] = constant
    found = class_correlation(logits)
    np.testing.assert_array_equal(found[2], [0, 0, 1, 0])
    np.testing.assert_array_equal(found[:, 2], [0, 0, 1, 0])


def test_mean_difference_counts_each_pair_of_classes_once():
    one, other = (class_correlation(normal(30, 6, seed=seed).float().numpy()) for seed in (1, 2))
    pairs = [abs(one[i, j] - other[i, j]) for i in range(6) for j in range(i)]
    assert mean_difference(one, other) == pytest.approx(sum(pairs) / 15, abs=1e-15)
    assert mean_difference(one, one) == 0
    opposite = np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert mean_difference(*opposite) == 2
