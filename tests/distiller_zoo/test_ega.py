"""EGA: nodes and edges by plain loops, gradients, known values, its projection and options."""

import math

import numpy as np
import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.ega import correlations, edge_loss, node_loss
from tests import naive
from tests.distiller_zoo.cases import (
    CNN,
    WIDE,
    assert_published,
    assert_refused,
    embedding_of,
    losses_of_embeddings,
    make,
    maps_pair,
)
from tests.distiller_zoo.odd_inputs import assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


def naive_correlations(a, b):
    return np.array([[np.corrcoef(row, other)[0, 1] for other in b] for row in a])


def naive_node(e_s, e_t):
    return math.sqrt(((naive_correlations(e_s, e_t) - np.eye(len(e_s))) ** 2).sum())


def naive_edge(e_s, e_t):
    return math.sqrt(((naive_correlations(e_s, e_s) - naive_correlations(e_t, e_t)) ** 2).sum())


@every_dtype
@pytest.mark.parametrize(("batch", "width"), [(1, 3), (5, 4), (6, 11)])
def test_formula(batch, width, dtype):
    e = normal(batch, width, seed=1, dtype=dtype), 1 + normal(batch, width, seed=2, dtype=dtype)
    assert_near(node_loss(*e), naive_node(*arrays(*e)))
    wider = normal(batch, width + 2, seed=3, dtype=dtype)
    assert_near(edge_loss(e[0], wider), naive_edge(*arrays(e[0], wider)))


def test_gradient():
    assert_gradient(node_loss, *maps_pair((3, 4), (3, 4)))
    assert_gradient(edge_loss, *maps_pair((3, 4), (3, 5)))


def test_equal_and_uncorrelated_embeddings():
    e = normal(4, 6)
    assert edge_loss(e, e.clone()) == 0
    assert_near(edge_loss(2 * e + 1, e), 0)
    rows = torch.tensor([[1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64)
    assert_near(correlations(rows, rows), np.eye(3))
    assert node_loss(rows, rows) == 0
    assert_near(node_loss(-rows, rows), math.sqrt(3 * 4))


@pytest.mark.parametrize(("width_s", "width_t"), [(5, 6), (6, 6)])
@pytest.mark.parametrize("options", [{}, {"ega_node": 2.0, "ega_edge": 3.0}])
def test_losses(width_s, width_t, options):
    """The student is projected where the widths differ."""
    method = make("ega", embedding_of(width_s), embedding_of(width_t), **options)
    e_s, e_t = maps_pair((4, width_s), (4, width_t))
    losses, (projected, taught) = losses_of_embeddings(method, e_s, e_t), arrays(e_s, e_t)
    assert list(losses) == ["ega_node", "ega_edge"]
    if width_s == width_t:
        assert not list(method.parameters())
    else:
        projected = naive.linear(method.project, projected)
    assert_near(losses["ega_node"], options.get("ega_node", 0.8) * naive_node(projected, taught))
    assert_near(losses["ega_edge"], options.get("ega_edge", 0.24) * naive_edge(projected, taught))


@pytest.mark.parametrize("teacher", [CNN, WIDE], ids=["as wide", "wider"])
def test_odd_embeddings(teacher):
    assert_method_stays_finite(lambda: make("ega", CNN, teacher), CNN, teacher)


def test_published():
    assert_published("ega", Weights(1, 0, 1), {"ega_node": 0.8, "ega_edge": 0.24})


def test_refused_options():
    assert_refused("ega", ega_node=-1.0)
    assert_refused("ega", ega_edge=-1.0)
