"""NormKD: KD at each sample's own temperature by plain loops, its gradient, what it does not see, and options."""

import numpy as np
import pytest

from distiller_zoo import Weights
from distiller_zoo.normkd import normkd_loss
from tests import naive
from tests.distiller_zoo.cases import (
    assert_published,
    assert_refused,
    every_logits_shape,
    logits_pair,
    losses_of_logits,
)
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_logits, assert_no_giant_first_step
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype


def naive_normkd(logits_s, logits_t, scale):
    total = []
    for s, t in zip(*arrays(logits_s, logits_t), strict=True):
        t_s, t_t = scale * np.std(s, ddof=1), scale * np.std(t, ddof=1)
        total.append(t_t**2 * naive.kl(naive.softmax(t, t_t), naive.softmax(s, t_s)))
    return naive.mean(total)


@every_dtype
@every_logits_shape
def test_formula(shape, dtype):
    s, t = logits_pair(shape, dtype)
    assert_near(normkd_loss(s, t, 2.0), naive_normkd(s, t, 2.0))


def test_gradient():
    assert_gradient(lambda s, t: normkd_loss(s, t, 2.0), *logits_pair())


@pytest.mark.parametrize("seed", range(5))
def test_zero_for_equal_logits_and_not_otherwise(seed):
    s, t = logits_pair(seed=10 * seed)
    assert normkd_loss(s, s, 2.0).abs() < 1e-12
    assert normkd_loss(s, t, 2.0) > 1e-3


def test_sees_neither_shift_nor_scale_of_the_student():
    s, t = logits_pair((4, 7))
    assert_near(normkd_loss(5 * s - 2, t, 2.0), normkd_loss(s, t, 2.0).item())
    assert_near(normkd_loss(s, 3 * t + 1, 2.0), 9 * normkd_loss(s, t, 2.0).item())


def test_odd_logits():
    assert_finite_for_odd_logits(lambda s, t: normkd_loss(s, t, 2.0))
    assert_no_giant_first_step(lambda s, t: normkd_loss(s, t, 2.0))


@pytest.mark.parametrize("options", [{}, {"normkd_T": 3.0}])
def test_losses(options):
    s, t = logits_pair()
    found = losses_of_logits("normkd", s, t, **options)
    assert list(found) == ["normkd"]
    assert_near(found["normkd"], naive_normkd(s, t, options.get("normkd_T", 2.0)))


def test_published():
    assert_published("normkd", Weights(0.1, 0, 0.9), {"normkd_T": 2.0})


def test_refused_options():
    assert_refused("normkd", normkd_T=0.0)
