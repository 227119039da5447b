"""Agreement and confusion against scikit-learn and torch."""

import numpy as np
import pytest
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix

from analysis.agreement import compare, gain_errors, mean_kl
from analysis.per_class import class_accuracy, confusion, row_shares
from tests.numerics import normal, seeds

few = settings(max_examples=20)


@few
@given(seeds, st.integers(1, 50), st.integers(2, 7))
def test_agreement_is_scikit_learns(seed, images, classes):
    teacher, student = (
        normal(images, classes, seed=seed).float().numpy(),
        normal(images, classes, seed=seed + 1).float().numpy(),
    )
    labels = np.random.default_rng(seed).integers(classes, size=images)
    found = compare(teacher, student, labels)
    by_teacher, by_student = teacher.argmax(1), student.argmax(1)
    assert found.share == pytest.approx(accuracy_score(by_teacher, by_student))
    every = range(classes)
    np.testing.assert_array_equal(found.teacher, confusion_matrix(labels, by_teacher, labels=every))
    np.testing.assert_array_equal(found.student, confusion_matrix(labels, by_student, labels=every))
    np.testing.assert_array_equal(found.student_by_teacher, confusion_matrix(by_teacher, by_student, labels=every))
    for share, chosen in ((found.where_right, by_teacher == labels), (found.where_wrong, by_teacher != labels)):
        if chosen.any():
            assert share == pytest.approx(accuracy_score(by_teacher[chosen], by_student[chosen]))
        else:
            assert share is None
    for c in every:
        accuracy = class_accuracy(found.student)[c]
        if (labels == c).any():
            assert accuracy == pytest.approx(100 * np.mean(by_student[labels == c] == c))
        else:
            assert np.isnan(accuracy)


@few
@given(seeds, st.floats(0.1, 50))
def test_kl_is_torchs_and_its_direction_is_from_the_teacher(seed, scale):
    teacher, student = scale * normal(9, 5, seed=seed), scale * normal(9, 5, seed=seed + 1)
    expected = F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True)
    assert mean_kl(teacher.numpy(), student.numpy()) == pytest.approx(float(expected), rel=1e-9)
    assert mean_kl(teacher.numpy(), teacher.numpy() + 3) == pytest.approx(0, abs=1e-9)


def test_rows_of_a_confusion_matrix_are_the_first_argument():
    counts = confusion(np.array([0, 0, 2]), np.array([1, 1, 2]), 3)
    np.testing.assert_array_equal(counts, [[0, 2, 0], [0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(row_shares(counts), [[0, 100, 0], [0, 0, 0], [0, 0, 100]])


def test_the_error_of_a_gain_is_that_of_paired_images():
    """Of four images of class 0 one network alone is right on two, the other alone on one; class 1 has no image."""
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    one = np.array([right, right, wrong, right])
    other = np.array([wrong, wrong, right, right])
    differences = np.array([1.0, 1.0, -1.0, 0.0])
    error = gain_errors(one, other, np.zeros(4, dtype=int))
    assert error[0] == pytest.approx(100 * differences.std() / np.sqrt(4))
    assert np.isnan(error[1])
