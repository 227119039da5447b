"""InfoNCE within a batch: by plain loops, its gradient, known values."""

import math

import pytest
import torch

from distiller_zoo.contrast import info_nce
from tests import naive
from tests.distiller_zoo.odd_inputs import assert_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


@every_dtype
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_formula(batch, dtype):
    scores = 3 * normal(batch, batch, dtype=dtype)
    assert_near(info_nce(scores), naive.contrast_with_diagonal(*arrays(scores)))


def test_gradient():
    assert_gradient(info_nce, normal(4, 4))


def test_known_values():
    assert_near(info_nce(torch.zeros(5, 5, dtype=torch.float64)), math.log(5))
    assert_near(info_nce(1e4 * torch.eye(3, dtype=torch.float64)), 0)
    assert_near(info_nce(-1e4 * torch.eye(3, dtype=torch.float64)), 1e4 + math.log(2))


@pytest.mark.parametrize("scale", [0.0, 1e4, -1e4])
def test_odd_scores(scale):
    assert_finite(lambda scores, _: info_nce(scores), scale * torch.eye(4), torch.zeros(()))
