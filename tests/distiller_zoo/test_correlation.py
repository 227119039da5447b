"""CC: both forms by plain loops, gradients, known values, odd embeddings and options."""

import math

import pytest
import torch

from distiller_zoo import METHODS, Weights
from distiller_zoo.correlation import congruence_loss, neighbours_loss, taylor_kernel
from tests import naive
from tests.distiller_zoo.cases import (
    CNN,
    assert_published,
    assert_refused,
    embedding_of,
    losses_of_embeddings,
    make,
    maps_pair,
)
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_inputs, assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal

E_S, E_T = maps_pair((3, 6), (3, 6))


def naive_neighbours(s, t):
    d = abs(s - t)
    return naive.mean([float(d[i] @ d[i + 1]) for i in range(len(d) - 1)])


def naive_congruence(e_s, e_t, gamma, order):
    kernels = []
    for e in (e_s, e_t):
        cosines = naive.gram([naive.unit(row) for row in e])
        terms = [(2 * gamma * cosines) ** p / math.factorial(p) for p in range(order + 1)]
        kernels.append(math.exp(-2 * gamma) * sum(terms))
    return ((kernels[0] - kernels[1]) ** 2).sum() / len(e_s) ** 2


@every_dtype
@pytest.mark.parametrize("shape", [(2, 3), (5, 4), (9, 1)])
def test_neighbours(shape, dtype):
    e = maps_pair(shape, shape, dtype)
    assert_near(neighbours_loss(*e), naive_neighbours(*arrays(*e)))


@every_dtype
@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (1.5, 1), (0.1, 5)])
@pytest.mark.parametrize(("batch", "width_s", "width_t"), [(1, 2, 3), (4, 3, 3), (7, 5, 2)])
def test_congruence(batch, width_s, width_t, gamma, order, dtype):
    e = maps_pair((batch, width_s), (batch, width_t), dtype)
    assert_near(congruence_loss(*e, gamma, order), naive_congruence(*arrays(*e), gamma, order))


def test_gradient():
    assert_gradient(neighbours_loss, *maps_pair((4, 3), (4, 3)))
    assert_gradient(lambda s, t: congruence_loss(s, t, 0.4, 2), *maps_pair((4, 3), (4, 5)))


def test_neighbours_of_known_embeddings():
    e = torch.tensor([[1.0, -2.0], [3.0, 4.0], [0.0, 1.0]])
    assert neighbours_loss(e, torch.zeros(3, 2)) == (3 + 8 + 4) / 2
    assert neighbours_loss(e, e) == 0
    assert neighbours_loss(e[:1], torch.zeros(1, 2)) == 0  # one sample has no neighbour


def test_the_taylor_kernel_tends_to_the_gaussian_one():
    e = normal(5, 3)
    unit = e / e.norm(dim=1, keepdim=True)
    gaussian = torch.exp(-0.4 * torch.cdist(unit, unit).square())
    torch.testing.assert_close(taylor_kernel(e, 0.4, 20), gaussian)


def test_odd_embeddings():
    assert_finite_for_odd_inputs(neighbours_loss, *maps_pair((4, 3), (4, 3)))
    assert_finite_for_odd_inputs(lambda s, t: congruence_loss(s, t, 0.4, 2), *maps_pair((4, 3), (4, 5)))
    assert_method_stays_finite(lambda: make("correlation"), CNN, embedding_of(7))


# --- the method -----------------------------------------------------------------------------------


def test_the_form_of_the_published_tables():
    method = make("correlation", embedding_of(6), embedding_of(6), feat_dim=4)
    s, t = naive.linear(method.embed_s, *arrays(E_S)), naive.linear(method.embed_t, *arrays(E_T))
    assert s.shape[1] == t.shape[1] == 4
    losses = losses_of_embeddings(method, E_S, E_T)
    assert list(losses) == ["correlation"]
    assert_near(losses["correlation"], naive_neighbours(s, t))


@pytest.mark.parametrize("options", [{}, {"cc_gamma": 1.5, "cc_order": 3}])
def test_the_papers_form(options):
    method = make("correlation", embedding_of(6), embedding_of(6), cc_form="paper", **options)
    assert list(method.parameters()) == []
    expected = naive_congruence(*arrays(E_S, E_T), options.get("cc_gamma", 0.4), options.get("cc_order", 2))
    assert_near(losses_of_embeddings(method, E_S, E_T)["correlation"], expected)


def test_published():
    options = {"cc_form": "repdistiller", "feat_dim": 128, "cc_gamma": 0.4, "cc_order": 2}
    assert_published("correlation", Weights(1, 0, 0.02), options)
    assert METHODS["cc"] is METHODS["correlation"]


def test_refused_options():
    for option, value in (("feat_dim", 0), ("cc_gamma", -1.0), ("cc_order", 0)):
        assert_refused("correlation", **{option: value})
