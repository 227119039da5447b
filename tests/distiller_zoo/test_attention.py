"""AT: the loss by plain loops, its gradient, what it does not see, odd maps, and which maps the method pairs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distiller_zoo import METHODS, Weights
from distiller_zoo.attention import attention_loss
from tests import naive
from tests.distiller_zoo.cases import assert_published, batch_of, every_map_shape, features, make, maps_pair, shapes
from tests.distiller_zoo.odd_inputs import ODD_MAPS, assert_finite_for_odd_inputs
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, few, normal, seeds


def naive_attention(f_s, f_t):
    squares = []
    for sample_s, sample_t in zip(*naive.common_size(f_s, f_t), strict=True):
        a_s, a_t = (naive.unit(sum(channel**2 for channel in sample) / len(sample)) for sample in (sample_s, sample_t))
        squares.append((a_s - a_t) ** 2)
    return np.mean(squares)


@every_dtype
@every_map_shape
def test_formula(shape_s, shape_t, dtype):
    maps = maps_pair(shape_s, shape_t, dtype)
    assert_near(attention_loss(*maps), naive_attention(*arrays(*maps)))


def test_gradient():
    assert_gradient(attention_loss, *maps_pair((2, 3, 4, 4), (2, 2, 2, 2)))


@few()
@given(seed=seeds, batch=st.integers(2, 7), channels=st.integers(2, 9), size=st.integers(1, 4))
def test_zero_for_equal_maps_of_any_scale_and_positive_otherwise(seed, batch, channels, size):
    f, other = normal(batch, channels, size, size, seed=seed), normal(batch, channels, size, size, seed=seed + 1)
    assert abs(attention_loss(f, f)) < 1e-15
    assert abs(attention_loss(2.5 * f, f)) < 1e-15
    assert attention_loss(other, f) > 0 or size == 1  # a map of one pixel is 1 whatever its value


def test_odd_maps():
    assert_finite_for_odd_inputs(attention_loss, *maps_pair((4, 3, 4, 4), (4, 5, 2, 2)), ODD_MAPS)


def test_the_method_adds_up_stages_of_the_same_depth():
    """Two stages of the student and four of the teacher: the second and the last of these go with the student's."""
    of_s, of_t = shapes((3, 8, 8), (4, 4, 4)), shapes((2, 8, 8), (5, 8, 8), (6, 4, 4), (7, 2, 2))
    student, teacher = features(of_s, 1), features(of_t, 2)
    f_s, f_t = arrays(*student.stages), arrays(*teacher.stages)
    losses = make("attention", of_s, of_t).losses(student, (teacher,), batch_of())
    assert list(losses) == ["attention"]
    assert_near(losses["attention"], naive_attention(f_s[0], f_t[1]) + naive_attention(f_s[1], f_t[3]))


def test_published():
    assert_published("attention", Weights(1, 0, 1000))
    assert METHODS["at"] is METHODS["attention"]
