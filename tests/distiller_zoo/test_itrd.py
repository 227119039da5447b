"""ITRD: correlation and mutual information by plain loops, gradients, known values, weights and options."""

import math

import numpy as np
import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.itrd import channel_correlations, correlation_loss, mutual_loss
from tests import naive
from tests.distiller_zoo.cases import (
    CNN,
    WIDE,
    assert_published,
    assert_refused,
    embedding_of,
    losses_of_embeddings,
    make,
    maps_pair,
)
from tests.distiller_zoo.odd_inputs import assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


def naive_correlation_loss(e_s, e_t, alpha):
    batch, total = len(e_s), 0.0
    for channel_s, channel_t in zip(e_s.T, e_t.T, strict=True):
        rows = []
        for values in (channel_s, channel_t):
            mean = sum(values) / batch
            deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (batch - 1))
            rows.append([(value - mean) / deviation for value in values])
        c = sum(s * t for s, t in zip(*rows, strict=True)) / batch
        total += abs(c - 1) ** (2 * alpha)
    return math.log2(total)


def naive_mutual_loss(e_s, e_t):
    grams = [naive.gram([naive.unit(row) for row in e]) for e in (e_s, e_t)]
    joint = grams[0] * grams[1]
    return ((grams[0] / np.trace(grams[0])) ** 2).sum() - ((joint / np.trace(joint)) ** 2).sum()


@every_dtype
@pytest.mark.parametrize("alpha", [1.01, 1.5])
@pytest.mark.parametrize(("batch", "width"), [(2, 1), (5, 3), (16, 7)])
def test_correlation(batch, width, alpha, dtype):
    e = normal(batch, width, seed=1, dtype=dtype), 2 + 3 * normal(batch, width, seed=2, dtype=dtype)
    assert_near(correlation_loss(*e, alpha), naive_correlation_loss(*arrays(*e), alpha))


@every_dtype
@pytest.mark.parametrize(("batch", "width_s", "width_t"), [(1, 2, 3), (5, 3, 3), (8, 4, 9)])
def test_mutual_information(batch, width_s, width_t, dtype):
    e = maps_pair((batch, width_s), (batch, width_t), dtype)
    assert_near(mutual_loss(*e), naive_mutual_loss(*arrays(*e)))


def test_gradient():
    assert_gradient(lambda s, t: correlation_loss(s, t, 1.5), *maps_pair((5, 3), (5, 3)))
    assert_gradient(mutual_loss, *maps_pair((4, 3), (4, 5)))


@pytest.mark.parametrize("alpha", [1.01, 1.5])
def test_correlation_of_equal_embeddings(alpha):
    """c is (B − 1)/B in all D channels; the same for any positive scale and shift."""
    e = normal(8, 5)
    expected = math.log2(5) - 2 * alpha * math.log2(8)
    assert_near(correlation_loss(e, e, alpha), expected)
    assert_near(correlation_loss(3 * e + 2, e, alpha), expected)
    np.testing.assert_allclose(channel_correlations(-e, e).numpy(), -7 / 8)


def test_mutual_information_of_orthogonal_samples_is_zero():
    assert_near(mutual_loss(2 * torch.eye(4, dtype=torch.float64), normal(4, 3)), 0)


def test_mutual_information_of_samples_that_the_student_confounds():
    """G_s is all ones over B; joined with a teacher that tells all apart it is the identity over B."""
    e_s, e_t = torch.ones(4, 2, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    assert_near(mutual_loss(e_s, e_t), 1 - 1 / 4)


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("width_s", "width_t"), [(5, 6), (6, 6)])
@pytest.mark.parametrize("options", [{}, {"itrd_corr": 3.0, "itrd_mutual": 0.5, "itrd_alpha": 1.01}])
def test_losses(width_s, width_t, options):
    """The student is embedded for the correlation always, for the mutual information where the widths differ."""
    method = make("itrd", embedding_of(width_s), embedding_of(width_t), **options)
    e_s, e_t = maps_pair((7, width_s), (7, width_t))
    projected = naive.linear(method.embed, *arrays(e_s))
    losses = losses_of_embeddings(method, e_s, e_t)
    assert list(losses) == ["itrd_corr", "itrd_mutual"]
    correlation = naive_correlation_loss(projected, *arrays(e_t), options.get("itrd_alpha", 1.5))
    assert_near(losses["itrd_corr"], options.get("itrd_corr", 2.0) * correlation)
    mutual = naive_mutual_loss(projected if width_s != width_t else e_s.numpy(), *arrays(e_t))
    assert_near(losses["itrd_mutual"], options.get("itrd_mutual", 0.05) * mutual)


@pytest.mark.parametrize("teacher", [CNN, WIDE], ids=["as wide", "wider"])
def test_odd_embeddings(teacher):
    assert_method_stays_finite(lambda: make("itrd", CNN, teacher), CNN, teacher)


def test_published():
    assert_published("itrd", Weights(1, 0, 1), {"itrd_corr": 2.0, "itrd_mutual": 0.05, "itrd_alpha": 1.5})


def test_refused_options():
    assert_refused("itrd", itrd_alpha=0.0)
    assert_refused("itrd", itrd_corr=-1.0)
    assert_refused("itrd", itrd_mutual=-1.0)
