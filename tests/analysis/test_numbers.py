"""The numbers behind the pictures, against NumPy, scikit-learn and plain loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix

from analysis.agreement import class_accuracy, compare, confusion, mean_kl, row_shares
from analysis.cka import MeanCka, centred_gram, cka, hsic
from analysis.class_correlation import class_correlation, mean_difference
from analysis.embedding import choose_images, project
from analysis.learning_curves import curve_of
from analysis.named_networks import safe_name, unique_names

SEEDS = st.integers(0, 2**31 - 1)
few = settings(max_examples=20)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def orthogonal(seed, width):
    return torch.linalg.qr(normal(seed, width, width).double())[0].float()


# --- correlation of logits -------------------------------------------------------------------------


@few
@given(SEEDS, st.integers(3, 60), st.integers(2, 12))
def test_class_correlation_is_numpys(seed, images, classes):
    logits = normal(seed, images, classes).numpy() * 3 + 5
    expected = np.corrcoef(logits.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(class_correlation(logits), expected, atol=1e-12)


@few
@given(SEEDS, st.floats(0.01, 100), st.floats(-100, 100))
def test_class_correlation_ignores_scale_and_shift_of_a_class(seed, scale, shift):
    logits = normal(seed, 40, 5).double().numpy()
    changed = logits * [scale, 1, 1, 1, 1] + [shift, 0, 0, 0, 0]
    np.testing.assert_allclose(class_correlation(changed), class_correlation(logits), atol=1e-9)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3])
def test_a_class_whose_logit_never_changes_correlates_with_none(constant):
    logits = normal(0, 1000, 4).numpy()
    logits[:, 2] = constant
    found = class_correlation(logits)
    np.testing.assert_array_equal(found[2], [0, 0, 1, 0])
    np.testing.assert_array_equal(found[:, 2], [0, 0, 1, 0])


def test_mean_difference_counts_each_pair_of_classes_once():
    one, other = (class_correlation(normal(seed, 30, 6).numpy()) for seed in (1, 2))
    pairs = [abs(one[i, j] - other[i, j]) for i in range(6) for j in range(i)]
    assert mean_difference(one, other) == pytest.approx(sum(pairs) / 15, abs=1e-15)
    assert mean_difference(one, one) == 0
    opposite = np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert mean_difference(*opposite) == 2


# --- CKA -------------------------------------------------------------------------------------------


def song(x, y):
    """The unbiased HSIC of linear kernels, term by term (Song et al., JMLR 2012, equation 5)."""
    k, el = (m.double().numpy() @ m.double().numpy().T for m in (x, y))
    n = len(k)
    np.fill_diagonal(k, 0)
    np.fill_diagonal(el, 0)
    one = np.ones(n)
    first = np.trace(k @ el)
    second = (one @ k @ one) * (one @ el @ one) / ((n - 1) * (n - 2))
    third = 2 / (n - 2) * (one @ k @ el @ one)
    return (first + second - third) / (n * (n - 3))


def plain(x, y):
    """Linear CKA by features, with the biased estimate (Kornblith et al., ICML 2019)."""
    x, y = ((m - m.mean(dim=0)).double() for m in (x, y))
    norm = torch.linalg.matrix_norm
    return float(norm(y.T @ x) ** 2 / (norm(x.T @ x) * norm(y.T @ y)))


@few
@given(SEEDS, st.integers(4, 20), st.integers(1, 8), st.integers(1, 8))
def test_hsic_is_songs(seed, images, wide, other):
    x, y = normal(seed, images, wide) + 2, normal(seed + 1, images, other) - 1
    found = float(hsic(centred_gram(x), centred_gram(y)))
    assert found == pytest.approx(song(x, y), rel=1e-3, abs=1e-4)


@few
@given(SEEDS, st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_cka_ignores_rotation_scale_and_shift(seed, scale, shift):
    x, y = normal(seed, 30, 12), normal(seed + 1, 30, 7)
    y[:, :5] += x[:, :5]
    expected = cka(x, y)
    assert cka(x @ orthogonal(seed, 12), y) == pytest.approx(expected, abs=1e-4)
    assert cka(x, y @ orthogonal(seed, 7)) == pytest.approx(expected, abs=1e-4)
    assert cka(scale * x, y) == pytest.approx(expected, abs=1e-4)
    assert cka(x, scale * y + shift) == pytest.approx(expected, abs=1e-3)
    assert cka(y, x) == pytest.approx(expected, abs=1e-6)
    assert cka(x, x) == pytest.approx(1)


def test_cka_sees_what_is_no_rotation():
    x = normal(0, 40, 6)
    assert cka(x, x * torch.tensor([30.0, 1, 1, 1, 1, 1])) < 0.9


def test_cka_has_no_bias_where_the_plain_estimate_has():
    """Independent features, more of them than images: the truth is 0."""
    pairs = [(normal(2 * i, 50, 500), normal(2 * i + 1, 50, 500)) for i in range(5)]
    assert abs(np.mean([cka(x, y) for x, y in pairs])) < 0.02
    assert min(plain(x, y) for x, y in pairs) > 0.8


def test_cka_tends_to_the_plain_one_with_many_images():
    x = normal(0, 3000, 6)
    y = x @ normal(1, 6, 4) + normal(2, 3000, 4)
    assert cka(x, y) == pytest.approx(plain(x, y), abs=0.005)


def test_mean_over_batches_is_taken_before_dividing_and_weighs_by_images():
    batches = [(normal(0, 12, 3, 2, 2), normal(1, 12, 5)), (normal(2, 6, 3, 2, 2), normal(3, 6, 5))]
    mean, sums = MeanCka(), np.zeros(3)
    for x, y in batches:
        mean.add([centred_gram(x), centred_gram(y)], [centred_gram(y)])
        x = x.flatten(1)
        sums += len(x) * np.array([song(x, y), song(x, x), song(y, y)])
    expected = sums[0] / np.sqrt(sums[1] * sums[2])
    np.testing.assert_allclose(mean.matrix(), [[expected], [1]], atol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4])
def test_a_layer_that_never_changes_shares_nothing(constant):
    assert cka(torch.full((10, 3), constant), normal(0, 10, 4)) == 0
    assert cka(torch.full((10, 3), constant), torch.full((10, 3), constant)) == 0


# --- agreement -------------------------------------------------------------------------------------


@few
@given(SEEDS, st.integers(1, 50), st.integers(2, 7))
def test_agreement_is_scikit_learns(seed, images, classes):
    teacher, student = normal(seed, images, classes).numpy(), normal(seed + 1, images, classes).numpy()
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
@given(SEEDS, st.floats(0.1, 50))
def test_kl_is_torchs_and_its_direction_is_from_the_teacher(seed, scale):
    teacher, student = scale * normal(seed, 9, 5).double(), scale * normal(seed + 1, 9, 5).double()
    expected = F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True)
    assert mean_kl(teacher.numpy(), student.numpy()) == pytest.approx(float(expected), rel=1e-9)
    assert mean_kl(teacher.numpy(), teacher.numpy() + 3) == pytest.approx(0, abs=1e-9)


def test_rows_of_a_confusion_matrix_are_the_first_argument():
    counts = confusion(np.array([0, 0, 2]), np.array([1, 1, 2]), 3)
    np.testing.assert_array_equal(counts, [[0, 2, 0], [0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(row_shares(counts), [[0, 100, 0], [0, 0, 0], [0, 0, 100]])


# --- embeddings ------------------------------------------------------------------------------------


@few
@given(st.lists(st.integers(0, 4), max_size=60), st.integers(0, 40))
def test_chosen_images_are_the_first_and_as_equally_many_of_each_class_as_there_are(labels, count):
    labels, classes = np.array(labels, dtype=np.int64), [3, 1, 0]
    chosen = choose_images(labels, classes, count)
    there = {c: list(np.flatnonzero(labels == c)) for c in classes}
    assert len(chosen) == min(count, sum(map(len, there.values())))
    assert list(chosen) == sorted(set(chosen))
    numbers = {}
    for c, members in there.items():
        mine = [i for i in chosen if labels[i] == c]
        assert mine == members[: len(mine)]
        numbers[c] = len(mine)
    for c in classes:  # a class has fewer than another only where it has no more, or by one where the count ran out
        if numbers[c] < len(there[c]):
            assert numbers[c] >= max(numbers.values()) - 1


def test_tsne_keeps_clusters_apart_and_gives_the_same_bits_again():
    labels = np.repeat(np.arange(3), 10)
    embeddings = normal(0, 30, 8).numpy() + 40 * np.eye(8, dtype=np.float32)[labels]
    points = project(embeddings)
    assert points.shape == (30, 2)
    distances = np.linalg.norm(points[:, None] - points, axis=2) + 1e9 * np.eye(30)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    np.testing.assert_array_equal(project(embeddings), points)


def test_tsne_of_embeddings_that_are_all_alike_gives_points():
    assert np.isfinite(project(np.ones((12, 4), dtype=np.float32))).all()


# --- curves and names ------------------------------------------------------------------------------


def test_a_curve_is_mean_and_band_over_the_trials_that_reached_the_epoch():
    trials = [{1: 10.0, 2: 20.0, 3: 30.0}, {1: 14.0, 2: 26.0}, {1: 18.0, 2: 23.0}]
    curve = curve_of("kd", trials, "range")
    assert (list(curve.epochs), list(curve.n)) == ([1, 2, 3], [3, 3, 1])
    np.testing.assert_allclose(curve.mean, [14, 23, 30])
    np.testing.assert_allclose([curve.low, curve.high], [[10, 20, 30], [18, 26, 30]])
    curve = curve_of("kd", trials, "std")
    np.testing.assert_allclose(curve.high - curve.mean, [4, 3, 0])  # of 10, 14, 18 and of 20, 23, 26
    np.testing.assert_allclose(curve.mean - curve.low, [4, 3, 0])


def test_names_are_unique_and_fit_for_files():
    assert unique_names(["kd", "kd", "KD", "kd-2", "std"]) == ["kd", "kd-2", "KD-3", "kd-2-2", "std"]
    assert safe_name("crd*0.5+hint kd_T=4.0") == "crd_0.5+hint_kd_T_4.0"
    assert safe_name("../x/y") == "_x_y"
    assert safe_name("..") == "_"
