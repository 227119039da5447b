"""VID: the Gaussian likelihood and the loss through its regressors by plain loops, gradients, the first variance."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from distiller_zoo import Weights
from distiller_zoo.vid import VariationalRegressor, gaussian_nll
from models import Features
from tests import naive
from tests.distiller_zoo.cases import CNN, WIDE, assert_published, batch_of, features, make, shapes
from tests.distiller_zoo.odd_inputs import assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


def naive_gaussian(mean, target, variance):
    total = 0.0
    for index in np.ndindex(mean.shape):
        v = variance[index[1]]
        total += 0.5 * ((mean[index] - target[index]) ** 2 / v + math.log(v))
    return total / mean.size


@every_dtype
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 4), (3, 5, 2, 3)])
def test_formula(shape, dtype):
    mean, target = normal(*shape, seed=1, dtype=dtype), normal(*shape, seed=2, dtype=dtype)
    variance = normal(shape[1], seed=3, dtype=dtype).exp()
    assert_near(gaussian_nll(mean, target, variance), naive_gaussian(*arrays(mean, target, variance)))


def test_gradient():
    assert_gradient(
        lambda mean, target, log_variance: gaussian_nll(mean, target, log_variance.exp()),
        normal(2, 2, 3, 3, seed=1), normal(2, 2, 3, 3, seed=2), normal(2, seed=3),
    )  # fmt: skip


def test_starts_from_a_variance_of_five():
    regressor = VariationalRegressor(3, 4)
    np.testing.assert_allclose(F.softplus(regressor.log_scale.detach().double()).numpy() + 1e-5, 5.0, rtol=1e-6)


@every_dtype
def test_through_its_regressors(dtype):
    """Three stages of which the first two differ in size: the sum of the stages' losses."""
    of_s = shapes((2, 4, 4), (3, 4, 4), (4, 2, 2))
    of_t = shapes((3, 8, 8), (5, 2, 2), (6, 2, 2))
    vid = make("vid", of_s, of_t, dtype)
    for regressor in vid.regressors:
        torch.nn.init.normal_(regressor.log_scale)
    maps_s, maps_t = (features(of, seed, dtype=dtype).stages for seed, of in enumerate((of_s, of_t)))
    expected = 0.0
    for regressor, f_s, f_t in zip(vid.regressors, maps_s, maps_t, strict=True):
        x, y = naive.common_size(*arrays(f_s, f_t))
        variance = [math.log(1 + math.exp(rho)) + 1e-5 for rho in regressor.log_scale.tolist()]
        expected += naive_gaussian(naive.run_layers(regressor.mean, x), y, variance)
        assert naive.described(regressor.mean)[1::2] == ["ReLU", "ReLU"]
    unread = torch.tensor(math.nan)
    losses = vid.losses(Features(unread, stages=maps_s), (Features(unread, stages=maps_t),), batch_of())
    assert list(losses) == ["vid"]
    assert_near(losses["vid"], expected)


def test_odd_features():
    assert_method_stays_finite(lambda: make("vid"), CNN, WIDE)


def test_published():
    assert_published("vid", Weights(1, 0, 1))
