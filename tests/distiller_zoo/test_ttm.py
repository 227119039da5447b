"""TTM: the divergence from the transformed teacher by plain loops, its gradient, known values and options."""

import numpy as np
import pytest

from distiller_zoo import Weights
from distiller_zoo.ttm import transformed_kl_of_each
from tests import naive
from tests.distiller_zoo.cases import (
    assert_published,
    assert_refused,
    every_logits_shape,
    logits_pair,
    losses_of_logits,
)
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_logits, assert_no_giant_first_step
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


def naive_ttm(logits_s, logits_t, power):
    """The divergence of each sample, from the teacher's probabilities to a power, made to add up to 1 again."""
    each = []
    for s, t in zip(*arrays(logits_s, logits_t), strict=True):
        powers = [p**power for p in naive.softmax(t)]
        each.append(naive.kl([p / sum(powers) for p in powers], naive.softmax(s)))
    return each


@every_dtype
@every_logits_shape
@pytest.mark.parametrize("power", [0.1, 0.5, 1.0])
def test_formula(shape, power, dtype):
    logits = logits_pair(shape, dtype)
    assert_near(transformed_kl_of_each(*logits, power), naive_ttm(*logits, power))


def test_gradient():
    assert_gradient(lambda s, t: transformed_kl_of_each(s, t, 0.1), *logits_pair())


def test_the_transformed_teacher_is_reached_by_its_logits_times_the_power():
    t = normal(4, 6)
    assert transformed_kl_of_each(0.3 * t, t, 0.3).abs().max() < 1e-12
    assert_near(transformed_kl_of_each(t, 2 * t, 0.5), np.zeros(4))


def test_odd_logits():
    assert_finite_for_odd_logits(lambda s, t: transformed_kl_of_each(s, t, 0.1))
    assert_no_giant_first_step(lambda s, t: transformed_kl_of_each(s, t, 0.1))


@pytest.mark.parametrize("options", [{}, {"ttm_l": 0.5}])
def test_losses(options):
    s, t = logits_pair()
    found = losses_of_logits("ttm", s, t, **options)
    assert list(found) == ["ttm"]
    assert_near(found["ttm"], naive.mean(naive_ttm(s, t, options.get("ttm_l", 0.1))))


def test_published():
    assert_published("ttm", Weights(1, 0, 45), {"ttm_l": 0.1})


def test_refused_options():
    assert_refused("ttm", ttm_l=0.0)
