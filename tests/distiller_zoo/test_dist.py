"""DIST: its correlations by plain loops and by SciPy, their gradients, what they do not see, and options."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from distiller_zoo import Weights
from distiller_zoo.dist import inter_loss, intra_loss
from tests import naive
from tests.distiller_zoo.cases import assert_published, assert_refused, logits_pair, losses_of_logits, make
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_logits, assert_no_giant_first_step
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype

PARTS = {"inter": inter_loss, "intra": intra_loss}
every_part = pytest.mark.parametrize("part", PARTS)


def naive_correlation(a, b):
    a, b = [value - naive.mean(a) for value in a], [value - naive.mean(b) for value in b]
    length = math.sqrt(math.fsum(value**2 for value in a)) * math.sqrt(math.fsum(value**2 for value in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / (length + 1e-8)


def naive_dist(logits_s, logits_t, temperature):
    """Inter-class and intra-class part."""
    p_s, p_t = (np.array([naive.softmax(row, temperature) for row in z]) for z in arrays(logits_s, logits_t))
    inter = 1 - naive.mean([naive_correlation(a, b) for a, b in zip(p_s, p_t, strict=True)])
    intra = 1 - naive.mean([naive_correlation(a, b) for a, b in zip(p_s.T, p_t.T, strict=True)])
    return temperature**2 * inter, temperature**2 * intra


@every_dtype
@pytest.mark.parametrize("shape", [(4, 3), (7, 10), (5, 33), (1, 4)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_formula(shape, temperature, dtype):
    s, t = logits_pair(shape, dtype)
    found = torch.stack([inter_loss(s, t, temperature), intra_loss(s, t, temperature)])
    assert_near(found, naive_dist(s, t, temperature))


def test_correlations_are_pearsons():
    s, t = logits_pair((6, 9))
    p_s, p_t = s.softmax(dim=1).numpy(), t.softmax(dim=1).numpy()
    inter = naive.mean([stats.pearsonr(a, b)[0] for a, b in zip(p_s, p_t, strict=True)])
    intra = naive.mean([stats.pearsonr(a, b)[0] for a, b in zip(p_s.T, p_t.T, strict=True)])
    found = [inter_loss(s, t, 1.0).item(), intra_loss(s, t, 1.0).item()]
    np.testing.assert_allclose(found, [1 - inter, 1 - intra], rtol=1e-5)  # but for ε


@every_part
def test_gradient(part):
    assert_gradient(lambda s, t: PARTS[part](s, t, 4.0), *logits_pair())


@every_part
@pytest.mark.parametrize("seed", range(5))
def test_zero_for_equal_logits_and_not_otherwise(part, seed):
    s, t = logits_pair(seed=10 * seed)
    assert PARTS[part](s, s, 4.0).abs() < 1e-4  # the ε of the correlation
    assert PARTS[part](s, t, 4.0) > 1e-3


def test_sees_neither_shift_nor_scale_of_predictions():
    """Any student whose probabilities are a linear function of the teacher's has learned all of it."""
    p_t = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]).double()
    p_s = 0.5 * p_t + 0.5 / 3
    assert inter_loss(p_s.log(), p_t.log(), 1.0).abs() < 1e-5
    assert intra_loss(p_s.log(), p_t.log(), 1.0).abs() < 1e-5
    reverse = (0.7 - p_t) / (0.7 - p_t).sum(dim=1, keepdim=True)
    assert_near(inter_loss(reverse.log(), p_t.log(), 1.0).round(decimals=5), 2.0)


@every_part
def test_odd_logits(part):
    assert_finite_for_odd_logits(lambda s, t: PARTS[part](s, t, 4.0), (3, 1))
    assert_no_giant_first_step(lambda s, t: PARTS[part](s, t, 4.0))


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"dist_inter": 3.0, "dist_intra": 0.0, "dist_T": 1.0}])
def test_losses(options):
    s, t = logits_pair()
    found = losses_of_logits("dist", s, t, **options)
    assert list(found) == ["dist_inter", "dist_intra"]
    inter, intra = naive_dist(s, t, options.get("dist_T", 4.0))
    assert_near(found["dist_inter"], options.get("dist_inter", 2.0) * inter)
    assert_near(found["dist_intra"], options.get("dist_intra", 2.0) * intra)


def test_published():
    assert_published("dist", Weights(1, 0, 1), {"dist_inter": 2.0, "dist_intra": 2.0, "dist_T": 4.0})


def test_refused_options():
    assert_refused("dist", dist_T=0.0)
    for option in ("dist_inter", "dist_intra"):
        assert_refused("dist", **{option: -1.0})
        make("dist", **{option: 0.0})
