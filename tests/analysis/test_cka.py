"""Linear CKA against its terms written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.cka import MeanCka, centred_gram, cka, hsic
from tests.numerics import normal, seeds

few = settings(max_examples=20)


def orthogonal(seed, width):
    return torch.linalg.qr(normal(width, width, seed=seed))[0].float()


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
@given(seeds, st.integers(4, 20), st.integers(1, 8), st.integers(1, 8))
def test_hsic_is_songs(seed, images, wide, other):
    x, y = normal(images, wide, seed=seed).float() + 2, normal(images, other, seed=seed + 1).float() - 1
    found = float(hsic(centred_gram(x), centred_gram(y)))
    assert found == pytest.approx(song(x, y), rel=1e-3, abs=1e-4)


@few
@given(seeds, st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_cka_ignores_rotation_scale_and_shift(seed, scale, shift):
    x, y = normal(30, 12, seed=seed).float(), normal(30, 7, seed=seed + 1).float()
    y[:, :5] += x[:, :5]
    expected = cka(x, y)
    assert cka(x @ orthogonal(seed, 12), y) == pytest.approx(expected, abs=1e-4)
    assert cka(x, y @ orthogonal(seed, 7)) == pytest.approx(expected, abs=1e-4)
    assert cka(scale * x, y) == pytest.approx(expected, abs=1e-4)
    assert cka(x, scale * y + shift) == pytest.approx(expected, abs=1e-3)
    assert cka(y, x) == pytest.approx(expected, abs=1e-6)
    assert cka(x, x) == pytest.approx(1)


def test_cka_sees_what_is_no_rotation():
    x = normal(40, 6, seed=0).float()
    assert cka(x, x * torch.tensor([30.0, 1, 1, 1, 1, 1])) < 0.9


def test_cka_has_no_bias_where_the_plain_estimate_has():
    """Independent features, more of them than images: the truth is 0."""
    pairs = [(normal(50, 500, seed=2 * i).float(), normal(50, 500, seed=2 * i + 1).float()) for i in range(5)]
    assert abs(np.mean([cka(x, y) for x, y in pairs])) < 0.02
    assert min(plain(x, y) for x, y in pairs) > 0.8


def test_cka_tends_to_the_plain_one_with_many_images():
    x = normal(3000, 6, seed=0).float()
    y = x @ normal(6, 4, seed=1).float() + normal(3000, 4, seed=2).float()
    assert cka(x, y) == pytest.approx(plain(x, y), abs=0.005)


def test_mean_over_batches_is_taken_before_dividing_and_weighs_by_images():
    batches = [
        (normal(12, 3, 2, 2, seed=0).float(), normal(12, 5, seed=1).float()),
        (normal(6, 3, 2, 2, seed=2).float(), normal(6, 5, seed=3).float()),
    ]
    mean, sums = MeanCka(), np.zeros(3)
    for x, y in batches:
        mean.add([centred_gram(x), centred_gram(y)], [centred_gram(y)])
        x = x.flatten(1)
        sums += len(x) * np.array([song(x, y), song(x, x), song(y, y)])
    expected = sums[0] / np.sqrt(sums[1] * sums[2])
    np.testing.assert_allclose(mean.matrix(), [[expected], [1]], atol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4])
def test_a_layer_that_never_changes_shares_nothing(constant):
    assert cka(torch.full((10, 3), constant), normal(10, 4, seed=0).float()) == 0
    assert cka(torch.full((10, 3), constant), torch.full((10, 3), constant)) == 0
