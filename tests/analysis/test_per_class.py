"""Figures of classes against scikit-learn, and what classes without images or predictions have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, precision_score

from analysis.per_class import balanced_accuracy, confusion, figures_by_class, largest_confusions

COUNTS = np.array([[5, 3, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 4]])


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 7))
def test_they_are_scikit_learns(seed, images, classes):
    rng = np.random.default_rng(seed)
    labels, predicted = np.concatenate([np.tile(np.arange(2), (2, 1)), rng.integers(classes, size=(2, images))], axis=1)
    counts = confusion(labels, predicted, classes)
    assert balanced_accuracy(counts) == pytest.approx(100 * balanced_accuracy_score(labels, predicted))
    precisions = precision_score(labels, predicted, labels=range(classes), average=None, zero_division=np.nan)
    for figures, precision in zip(figures_by_class(counts), precisions, strict=True):
        assert figures.images == (labels == figures.label).sum()
        assert (figures.precision is None) == np.isnan(precision)
        assert figures.precision is None or figures.precision == pytest.approx(100 * precision)


def test_the_class_that_another_is_mistaken_for():
    figures = figures_by_class(COUNTS, list("abcd"))
    assert [(c.name, c.recall, c.mistaken_for, c.times) for c in figures] == [
        ("a", 62.5, 1, 3),
        ("b", 0.0, 0, 1),
        ("c", None, None, 0),
        ("d", 100.0, None, 0),
    ]
    assert [c.precision for c in figures] == [pytest.approx(500 / 6), 0.0, None, 80.0]


def test_the_largest_confusions_come_first_and_correct_predictions_are_none():
    found = largest_confusions(COUNTS, 10)
    assert [(c.true, c.predicted, c.images, c.share) for c in found] == [(0, 1, 3, 37.5), (1, 0, 1, 50), (1, 3, 1, 50)]
    assert largest_confusions(COUNTS, 1) == found[:1]
    assert largest_confusions(np.diag([2, 3]), 5) == []
