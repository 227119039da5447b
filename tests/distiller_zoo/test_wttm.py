"""WTTM: the weighted divergence from the transformed teacher by plain loops, its gradient, known values and options."""

import numpy as np
import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.wttm import power_sum, wttm_loss
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


def naive_wttm(logits_s, logits_t, power):
    """The divergence from the teacher's probabilities to a power, each sample weighted by the sum of these."""
    total = []
    for s, t in zip(*arrays(logits_s, logits_t), strict=True):
        powers = [p**power for p in naive.softmax(t)]
        total.append(sum(powers) * naive.kl([p / sum(powers) for p in powers], naive.softmax(s)))
    return naive.mean(total)


@every_dtype
@every_logits_shape
@pytest.mark.parametrize("power", [0.1, 0.5, 1.0])
def test_formula(shape, power, dtype):
    logits = logits_pair(shape, dtype)
    assert_near(wttm_loss(*logits, power), naive_wttm(*logits, power))


def test_gradient():
    assert_gradient(lambda s, t: wttm_loss(s, t, 0.2), *logits_pair())


def test_the_transformed_teacher_is_reached_by_its_logits_times_the_power():
    t = normal(4, 6)
    assert wttm_loss(0.3 * t, t, 0.3).abs() < 1e-12


def test_power_sums_weigh_smooth_targets_more():
    logits = torch.tensor([[0.0, 0, 0, 0], [99.0, 0, 0, 0]]).double()
    assert_near(power_sum(logits, 0.5), [4 * 0.5, 1.0])
    assert_near(power_sum(normal(3, 5), 1.0), np.ones(3))


def test_odd_logits():
    assert_finite_for_odd_logits(lambda s, t: wttm_loss(s, t, 0.2))
    assert_no_giant_first_step(lambda s, t: wttm_loss(s, t, 0.2))


@pytest.mark.parametrize("options", [{}, {"wttm_l": 0.5}])
def test_losses(options):
    s, t = logits_pair()
    found = losses_of_logits("wttm", s, t, **options)
    assert list(found) == ["wttm"]
    assert_near(found["wttm"], naive_wttm(s, t, options.get("wttm_l", 0.2)))


def test_published():
    assert_published("wttm", Weights(1, 0, 4), {"wttm_l": 0.2})


def test_refused_options():
    assert_refused("wttm", wttm_l=0.0)
