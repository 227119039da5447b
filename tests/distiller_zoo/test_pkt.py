"""PKT: the loss by plain loops, its gradient, what it does not see, odd embeddings, and what the method reads."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from distiller_zoo import Weights
from distiller_zoo.pkt import neighbour_probabilities, pkt_loss
from tests.distiller_zoo.cases import (
    assert_published,
    embedding_of,
    every_embedding_shape,
    losses_of_embeddings,
    make,
    maps_pair,
)
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_inputs
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, few, normal, seeds


def naive_pkt(e_s, e_t, eps=1e-7):
    batch, probabilities = range(len(e_s)), []
    for e in (e_s, e_t):
        lengths = [math.sqrt((row**2).sum()) + eps for row in e]
        kernel = [[((e[i] * e[j]).sum() / lengths[i] / lengths[j] + 1) / 2 for j in batch] for i in batch]
        probabilities.append([[cell / sum(row) for cell in row] for row in kernel])
    total = 0.0
    for row_s, row_t in zip(*probabilities, strict=True):
        total += sum(p_t * math.log((p_t + eps) / (p_s + eps)) for p_s, p_t in zip(row_s, row_t, strict=True))
    return total / len(e_s) ** 2


@every_dtype
@every_embedding_shape
def test_formula(batch, width_s, width_t, dtype):
    e = maps_pair((batch, width_s), (batch, width_t), dtype)
    assert_near(pkt_loss(*e), naive_pkt(*arrays(*e)), double=1e-9)


def test_gradient():
    assert_gradient(pkt_loss, *maps_pair((4, 3), (4, 5)))


@few()
@given(seed=seeds, batch=st.integers(2, 7), width=st.integers(2, 9), scale=st.floats(0.1, 1000), data=st.data())
def test_what_it_does_not_see(seed, batch, width, scale, data):
    """The scale of the embeddings, and the order of the samples; least for equal embeddings."""
    e, other = normal(batch, width, seed=seed), normal(batch, width, seed=seed + 1)
    assert abs(pkt_loss(e, e)) < 1e-15
    assert pkt_loss(other, e) > -1e-7
    torch.testing.assert_close(pkt_loss(scale * e, other), pkt_loss(e, other), rtol=1e-4, atol=1e-6)
    order = torch.tensor(data.draw(st.permutations(range(batch))))
    torch.testing.assert_close(neighbour_probabilities(e[order]), neighbour_probabilities(e)[order][:, order])
    torch.testing.assert_close(pkt_loss(e[order], other[order]), pkt_loss(e, other))


@few()
@given(seed=seeds, batch=st.integers(2, 7), width=st.integers(2, 9))
def test_neighbour_probabilities_are_probabilities(seed, batch, width):
    p = neighbour_probabilities(normal(batch, width, seed=seed))
    assert (p >= 0).all()
    torch.testing.assert_close(p.sum(dim=1), torch.ones(batch, dtype=p.dtype))


def test_odd_embeddings():
    for seed in range(10):
        e = normal(6, 64, seed=seed), normal(6, 64, seed=seed + 99)
        assert_finite_for_odd_inputs(pkt_loss, *e)


def test_the_method_reads_embeddings():
    e = maps_pair((5, 4), (5, 7))
    losses = losses_of_embeddings(make("pkt", embedding_of(4), embedding_of(7)), *e)
    assert list(losses) == ["pkt"]
    assert_near(losses["pkt"], naive_pkt(*arrays(*e)))


def test_published():
    assert_published("pkt", Weights(1, 0, 30000))
