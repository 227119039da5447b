"""NST: the discrepancy by plain loops, both ways to the mean kernel, gradients, what it does not see, stages."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distiller_zoo import Weights
from distiller_zoo.nst import mean_kernel, nst_loss
from tests import naive
from tests.distiller_zoo.cases import assert_published, batch_of, every_map_shape, features, make, maps_pair, shapes
from tests.distiller_zoo.odd_inputs import ODD_MAPS, assert_finite_for_odd_inputs
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, few, normal, seeds


def naive_nst(f_s, f_t):
    total = []
    for s, t in zip(*naive.common_size(f_s, f_t), strict=True):
        rows_s, rows_t = ([naive.unit(channel) for channel in maps] for maps in (s, t))
        for sign, a, b in ((1, rows_t, rows_t), (1, rows_s, rows_s), (-2, rows_s, rows_t)):
            total.append(sign * np.mean([(x * y).sum() ** 2 for x in a for y in b]))
    return math.fsum(total) / len(f_s)


@every_dtype
@every_map_shape
def test_formula(shape_s, shape_t, dtype):
    maps = maps_pair(shape_s, shape_t, dtype)
    assert_near(nst_loss(*maps), naive_nst(*arrays(*maps)))


@pytest.mark.parametrize(("channels", "positions"), [((2, 3), 50), ((40, 30), 4), ((1, 40), 2), ((6, 6), 3)])
def test_both_ways_to_the_mean_kernel(channels, positions):
    x, y = normal(2, channels[0], positions, seed=1), normal(2, channels[1], positions, seed=2)
    expected = np.mean([[(a @ b) ** 2 for a in rows_x for b in rows_y] for rows_x, rows_y in zip(x, y, strict=True)])
    assert_near(mean_kernel(x, y), expected)


# The second pair has fewer positions than channels.
SHAPES = [((2, 3, 3, 3), (2, 4, 2, 2)), ((2, 7, 1, 2), (2, 6, 2, 2))]


@pytest.mark.parametrize("given_shapes", SHAPES)
def test_gradient(given_shapes):
    assert_gradient(nst_loss, *maps_pair(*given_shapes))


@few()
@given(seed=seeds, channels=st.integers(1, 9), size=st.integers(1, 4))
def test_sees_neither_scale_nor_order_nor_number_of_the_channels(seed, channels, size):
    f, other = normal(3, channels, size, size, seed=seed), normal(3, 4, size, size, seed=seed + 1)
    assert abs(nst_loss(2.5 * f, f)) < 1e-12
    assert abs(nst_loss(f.flip(1), f)) < 1e-12
    assert abs(nst_loss(torch.cat([f, -f], dim=1), f)) < 1e-12  # the kernel is even
    assert nst_loss(other, f) > -1e-12


def test_known_maps():
    """Channels that fire at one place each: K is 1 for the same place and 0 for others."""
    f_s = torch.eye(2, 4, dtype=torch.float64).view(1, 2, 2, 2)
    f_t = torch.eye(4, dtype=torch.float64).view(1, 4, 2, 2)
    assert nst_loss(f_s, f_t).item() == pytest.approx(1 / 4 + 1 / 2 - 2 * 2 / 8)


@pytest.mark.parametrize("given_shapes", SHAPES)
def test_odd_maps(given_shapes):
    assert_finite_for_odd_inputs(nst_loss, *maps_pair(*given_shapes), ODD_MAPS)


def test_the_method_adds_up_stages_of_the_same_depth():
    of_s, of_t = shapes((3, 4, 4), (5, 2, 2)), shapes((2, 4, 4), (3, 4, 4), (4, 2, 2), (5, 1, 1))
    student, teacher = features(of_s, 1), features(of_t, 2)
    losses = make("nst", of_s, of_t).losses(student, (teacher,), batch_of())
    expected = naive_nst(*arrays(student.stages[0], teacher.stages[1]))
    expected += naive_nst(*arrays(student.stages[1], teacher.stages[3]))
    assert list(losses) == ["nst"]
    assert_near(losses["nst"], expected)


def test_published():
    assert_published("nst", Weights(1, 0, 50))
