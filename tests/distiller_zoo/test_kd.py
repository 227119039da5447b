"""KD: its divergence by plain loops, its gradient, known values; as a method it is the run's KL alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distiller_zoo import METHODS, Weights
from distiller_zoo.kd import kd_loss
from distiller_zoo.teacher_mixture import MANY
from tests import naive
from tests.distiller_zoo.cases import assert_published, every_logits_shape, logits_pair, losses_of_logits
from tests.distiller_zoo.odd_inputs import (
    assert_finite_for_odd_logits,
    assert_no_giant_first_step,
    one_hot_logits,
)
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, few, normal, seeds


@every_dtype
@every_logits_shape
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_formula(shape, temperature, dtype):
    logits = logits_pair(shape, dtype)
    assert_near(kd_loss(*logits, temperature), naive.kd(*arrays(*logits), temperature))


def test_gradient():
    assert_gradient(lambda s, t: kd_loss(s, t, 4.0), *logits_pair())


@few()
@given(
    seed=seeds, batch=st.integers(2, 7), classes=st.integers(2, 20), temperature=st.floats(0.5, 20),
    scale=st.floats(0, 50),
)  # fmt: skip
def test_never_negative_and_zero_for_equal_logits(seed, batch, classes, temperature, scale):
    a, b = scale * normal(batch, classes, seed=seed), scale * normal(batch, classes, seed=seed + 1)
    assert kd_loss(a, b, temperature) >= -1e-12
    assert abs(kd_loss(a, a, temperature)) < 1e-12
    assert abs(kd_loss(a + 3, a, temperature)) < 1e-9  # softmax knows no common shift


def test_opposite_one_hot_predictions_are_as_far_apart_as_their_logits():
    """All of the teacher's probability lies where the student's logit is 20,000 below its best."""
    assert kd_loss(one_hot_logits(1e4), one_hot_logits(1e4, shift=1), 1.0).item() == pytest.approx(2e4)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_odd_logits(temperature):
    assert_finite_for_odd_logits(lambda s, t: kd_loss(s, t, temperature), (3, 1))
    assert_no_giant_first_step(lambda s, t: kd_loss(s, t, temperature))


def test_the_method_is_the_kl_of_the_run():
    assert_published("kd", Weights(0.1, 0.9, 0))
    assert METHODS["kd"].max_teachers == MANY
    assert losses_of_logits("kd", torch.zeros(3, 5), torch.ones(3, 5)) == {}
