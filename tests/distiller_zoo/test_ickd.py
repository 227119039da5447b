"""ICKD: channel correlations and the loss through its embedding by plain loops, gradients, known values, weights."""

import pytest

from distiller_zoo import Weights
from distiller_zoo.ickd import channel_correlation_loss
from tests import naive
from tests.distiller_zoo.cases import CNN, MLP, PAIRS, assert_published, batch_of, features, make, maps_pair
from tests.distiller_zoo.odd_inputs import (
    ODD_MAPS,
    assert_finite_for_odd_inputs,
    assert_method_stays_finite,
)
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


def naive_channels(f_s, f_t):
    total = []
    for sample_s, sample_t in zip(f_s, f_t, strict=True):
        rows_s, rows_t = ([naive.unit(row) for row in naive.gram(sample)] for sample in (sample_s, sample_t))
        total.append(sum(((s - t) ** 2).sum() for s, t in zip(rows_s, rows_t, strict=True)) / len(sample_s))
    return naive.mean(total)


@every_dtype
@pytest.mark.parametrize(("channels", "height_s", "height_t"), [(1, 1, 1), (5, 2, 3), (3, 4, 2), (6, 1, 4)])
def test_formula(channels, height_s, height_t, dtype):
    f = maps_pair((3, channels, height_s, height_s + 1), (3, channels, height_t, height_t), dtype)
    assert_near(channel_correlation_loss(*f), naive_channels(*arrays(*f)))


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_small_and_large_maps(scale):
    """In float32: the formula has fourth powers."""
    f_s, f_t = normal(2, 8, 4, 4, seed=1), normal(2, 8, 4, 4, seed=2)
    found = channel_correlation_loss((scale * f_s).float(), f_t.float() / scale)
    assert_near(found, naive_channels(*arrays(f_s, f_t)))


def test_dead_channels():
    """A dead channel has a row of zeros, which is at distance 1 from any other."""
    f_s, f_t = normal(2, 4, 3, 3, seed=1), normal(2, 4, 3, 3, seed=2)
    f_s[:, 1], f_t[:, 1], f_t[:, 2] = 0, 0, 0
    f_s[1] = 0
    assert_near(channel_correlation_loss(f_s, f_t), naive_channels(*arrays(f_s, f_t)))


def test_gradient_and_odd_maps():
    s, t = maps_pair((2, 3, 2, 2), (2, 3, 3, 1))
    assert_gradient(channel_correlation_loss, s, t)
    assert_finite_for_odd_inputs(channel_correlation_loss, s, t, ODD_MAPS)


def test_equal_maps_of_any_scale_are_at_no_distance():
    f = normal(3, 4, 3, 3)
    assert_near(channel_correlation_loss(f, f), 0)
    assert_near(channel_correlation_loss(3 * f, f), 0)


def test_through_its_embedding():
    method, student, teacher = make("ickd", CNN, MLP), features(CNN, 1), features(MLP, 2)
    expected = naive_channels(naive.run_layers(method.embed, student.stages[-1].numpy()), *arrays(teacher.stages[-1]))
    losses = method.losses(student, (teacher,), batch_of())
    assert list(losses) == ["ickd"]
    assert_near(losses["ickd"], expected)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_odd_features(pair):
    assert_method_stays_finite(lambda: make("ickd", *pair), *pair)


def test_published():
    assert_published("ickd", Weights(1, 0, 2.5))
