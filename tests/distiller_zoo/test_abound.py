"""AB: the boundary loss by plain loops, gradients, weights of stages, connectors, its initial stage and options."""

import pytest
import torch
from torch import nn

from distiller_zoo import METHODS, Weights
from distiller_zoo.abound import Connector, boundary_loss
from tests.distiller_zoo.cases import (
    CNN,
    WIDE,
    assert_published,
    assert_refused,
    batch_of,
    features,
    make,
    maps_pair,
    shapes,
)
from tests.distiller_zoo.odd_inputs import ODD_MAPS, assert_finite_for_odd_inputs
from tests.distiller_zoo.test_maps import naive_regressor
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


def naive_boundary(s, t, margin=1.0):
    """As published: by two masks."""
    total = 0.0
    for x, y in zip(s.ravel(), t.ravel(), strict=True):
        total += (x + margin) ** 2 * (x > -margin and y <= 0) + (x - margin) ** 2 * (x <= margin and y > 0)
    return total / len(s)


@every_dtype
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 4), (3, 5, 2, 3)])
def test_formula(shape, dtype):
    s, t = 2 * normal(*shape, seed=1, dtype=dtype), normal(*shape, seed=2, dtype=dtype)
    assert_near(boundary_loss(s, t), naive_boundary(*arrays(s, t)))


def test_known_neurons():
    s = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).view(1, 5, 1, 1)
    assert boundary_loss(s, torch.ones_like(s)) == 9 + 4 + 1
    assert boundary_loss(s, torch.zeros_like(s)) == 1 + 4 + 9  # a neuron at zero does not fire
    assert boundary_loss(s, 2 * s - 1e-3 * (s == 0)) == 1  # on the right side by the margin, but for the one at zero


def test_gradient_and_odd_maps():
    s, t = maps_pair((2, 3, 2, 2), (2, 3, 2, 2))
    assert_gradient(lambda s: boundary_loss(s, t), s)
    assert_finite_for_odd_inputs(boundary_loss, s, t, ODD_MAPS)


@pytest.mark.parametrize("sizes", [(4, 2), (2, 4), (5, 3), (2, 8)])
def test_a_connector_is_a_regressor_without_its_relu(sizes):
    torch.manual_seed(0)
    connector = Connector((2, sizes[0], sizes[0]), (3, sizes[1], sizes[1])).double()
    x = normal(2, 2, sizes[0], sizes[0])
    out = connector(x)
    assert out.min() < 0
    assert_near(out, naive_regressor(connector, x.numpy(), sizes[1], relu=False))


# --- the method -----------------------------------------------------------------------------------


@every_dtype
def test_the_initial_stage_weighs_stages_and_batch(dtype):
    """Two stages through connectors, one without: 3/1000 · (ℓ₁/4 + ℓ₂/2 + ℓ₃) / B."""
    of_s, of_t = shapes((2, 4, 4), (3, 4, 4), (5, 2, 2)), shapes((2, 8, 8), (4, 4, 4), (5, 2, 2))
    method = make("abound", of_s, of_t, dtype)
    assert [type(c) for c in method.connectors] == [Connector, Connector, nn.Identity]
    student, teacher = features(of_s, 1, dtype=dtype), features(of_t, 2, dtype=dtype)
    losses = method.initial_losses(student, (teacher,), batch_of())
    assert list(losses) == ["abound"]
    seen = [c(f) for c, f in zip(method.connectors, student.preacts, strict=True)]
    terms = [naive_boundary(*arrays(s, t)) for s, t in zip(seen, teacher.preacts, strict=True)]
    assert_near(losses["abound"], 3 / 1000 * (terms[0] / 4 + terms[1] / 2 + terms[2]))


def test_the_initial_stage_trains_student_and_connectors_and_the_main_stage_nothing():
    method, student, teacher = make("abound"), features(CNN, 1), features(WIDE, 2)
    assert (method.initial_epochs, method.initial_trains_student) == (30, True)
    assert make("abound", init_epochs=7).initial_epochs == 7
    leaves = [f.requires_grad_() for f in student.preacts]
    method.initial_losses(student, (teacher,), batch_of())["abound"].backward()
    assert all(leaf.grad.abs().sum() > 0 for leaf in leaves)
    assert all(p.grad is not None for p in method.parameters())
    method.end_initial_stage()
    assert not any(p.requires_grad for p in method.parameters())
    assert method.losses(student, (teacher,), batch_of()) == {}  # and so β has no effect, as published


def test_published():
    assert_published("abound", Weights(1, 0, 1), {"init_epochs": 30, "ab_bn": "frozen"})
    assert METHODS["ab"] is METHODS["abound"]


def test_refused_options():
    assert_refused("abound", init_epochs=0)
