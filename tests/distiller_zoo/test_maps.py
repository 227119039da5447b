"""Which maps of two networks go together, at what size, and the regressor from one to the other."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from distiller_zoo.maps import Regressor, average_pool, bottleneck, pair_stages, to_common_size
from tests import naive
from tests.distiller_zoo.cases import every_map_shape, maps_pair
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (3, 3, [(0, 0), (1, 1), (2, 2)]),
        (3, 4, [(0, 1), (1, 2), (2, 3)]),
        (4, 3, [(1, 0), (2, 1), (3, 2)]),
        (2, 4, [(0, 1), (1, 3)]),
        (5, 3, [(1, 0), (3, 1), (4, 2)]),
        (1, 4, [(0, 3)]),
    ],
)
def test_stages_pair_at_the_same_relative_depth(student, teacher, expected):
    assert pair_stages(student, teacher) == expected


@every_map_shape
def test_the_common_size_is_that_of_the_smaller(shape_s, shape_t):
    maps = maps_pair(shape_s, shape_t)
    for found, expected in zip(to_common_size(*maps), naive.common_size(*arrays(*maps)), strict=True):
        assert_near(found, expected)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (3, 4, 8, 8), (2, 3, 7, 5), (1, 2, 1, 1), (2, 5, 2, 6)])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_average_pool(shape, size):
    maps = normal(*shape)
    assert_near(average_pool(maps, (size, size)), naive.pool(*arrays(maps), size, size))


def test_a_bottleneck_has_three_convolutions():
    norm_and_relu = ["BatchNorm2d", "ReLU"]
    expected = [(3, 5, 1), *norm_and_relu, (5, 5, 3), *norm_and_relu, (5, 7, 1)]
    assert naive.described(bottleneck(3, 5, 7)) == expected
    assert bottleneck(3, 5, 7)(torch.zeros(2, 3, 4, 4)).shape == (2, 7, 4, 4)


# --- the regressor --------------------------------------------------------------------------------

# Width of a square map of the student, and of the teacher.
SIZES = [(8, 4), (3, 6), (5, 5), (6, 2), (7, 4), (2, 8), (4, 5), (1, 1), (2, 1), (1, 2)]
KERNELS = [3, 4, 1, 5, 4, 1, 1, 1, 3, 4]


def naive_bilinear(x, size):
    """Pixels are areas: the centre of output pixel i lies at (i + ½)·H/h − ½, held within the map."""
    high, out = x.shape[2], np.zeros((*x.shape[:2], size, size))
    places = [min(max((i + 0.5) * high / size - 0.5, 0), high - 1) for i in range(size)]
    for i, y in enumerate(places):
        for j, z in enumerate(places):
            for row, share in ((math.floor(y), 1 - y % 1), (math.ceil(y), y % 1)):
                for column, part in ((math.floor(z), 1 - z % 1), (math.ceil(z), z % 1)):
                    out[:, :, i, j] += share * part * x[:, :, row, column]
    return out


def naive_regressor(regressor, x, size, relu=True):
    """A regressor in training mode: interpolated where the target is larger and not double, convolved, normalised."""
    if size > x.shape[2] and size != 2 * x.shape[2]:
        x = naive_bilinear(x, size)
    x = naive.run_layers([regressor.conv, regressor.bn], x)
    return np.maximum(x, 0) if relu else x


@every_dtype
@pytest.mark.parametrize(("source", "target", "kernel"), [(*s, k) for s, k in zip(SIZES, KERNELS, strict=True)])
def test_regressor(source, target, kernel, dtype):
    torch.manual_seed(0)
    regressor = Regressor((3, source, source), (4, target, target)).to(dtype)
    nn.init.normal_(regressor.bn.weight)
    nn.init.normal_(regressor.bn.bias)
    assert regressor.conv.weight.shape[2:] == (kernel, kernel)
    x = normal(3, 3, source, source, dtype=dtype)
    found = regressor(x)
    assert found.shape == (3, 4, target, target)
    assert_near(found, naive_regressor(regressor, *arrays(x), target))


@pytest.mark.parametrize("sizes", [(8, 4), (2, 4), (5, 3), (2, 5)])
def test_gradient_through_the_regressor(sizes):
    torch.manual_seed(0)
    regressor = Regressor((2, sizes[0], sizes[0]), (2, sizes[1], sizes[1])).double()
    nn.init.constant_(regressor.bn.bias, 4)  # away from the kink of ReLU
    assert_gradient(regressor, normal(2, 2, sizes[0], sizes[0]))
