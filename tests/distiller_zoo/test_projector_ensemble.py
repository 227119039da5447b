"""PEFD: the direction loss and the averaged projectors by plain loops, gradients, known values and options."""

import numpy as np
import pytest
import torch

from distiller_zoo import METHODS, Weights
from distiller_zoo.projector_ensemble import direction_loss
from tests import naive
from tests.distiller_zoo.cases import (
    CNN,
    PAIRS,
    WIDE,
    assert_published,
    assert_refused,
    batch_of,
    features,
    make,
    maps_pair,
)
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_inputs, assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


def naive_direction(e_s, e_t):
    return 1 - naive.mean([naive.cosine(a, b) for a, b in zip(e_s, e_t, strict=True)])


@every_dtype
@pytest.mark.parametrize("shape", [(1, 1), (5, 4), (2, 9)])
def test_formula(shape, dtype):
    e = maps_pair(shape, shape, dtype)
    assert_near(direction_loss(*e), naive_direction(*arrays(*e)))


def test_gradient_and_odd_embeddings():
    e = maps_pair((3, 4), (3, 4))
    assert_gradient(direction_loss, *e)
    assert_finite_for_odd_inputs(direction_loss, *e)


def test_known_values():
    e = normal(3, 5)
    assert_near(direction_loss(3 * e, e), 0)
    assert_near(direction_loss(-e, e), 2)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_projectors_are_averaged(relu, count):
    method = make("projector_ensemble", pefd_relu=relu, pefd_projectors=count)
    student, teacher = features(CNN, 1), features(WIDE, 2)
    assert len(method.projectors) == count
    each = [naive.linear(projector, student.embedding.numpy()) for projector in method.projectors]
    projected = np.mean([np.maximum(e, 0) if relu else e for e in each], axis=0)
    losses = method.losses(student, (teacher,), batch_of())
    assert list(losses) == ["projector_ensemble"]
    assert_near(losses["projector_ensemble"], naive_direction(projected, teacher.embedding.numpy()))


def test_projectors_start_apart():
    first, second, third = make("projector_ensemble").projectors
    assert not torch.equal(first.weight, second.weight)
    assert not torch.equal(second.weight, third.weight)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("options", [{}, {"pefd_relu": False, "pefd_projectors": 1}])
def test_odd_features(pair, options):
    assert_method_stays_finite(lambda: make("projector_ensemble", *pair, **options), *pair)


def test_published():
    assert_published("projector_ensemble", Weights(1, 0, 25), {"pefd_projectors": 3, "pefd_relu": True})
    assert METHODS["pefd"] is METHODS["projector_ensemble"]


def test_refused_options():
    assert_refused("projector_ensemble", pefd_projectors=0)
