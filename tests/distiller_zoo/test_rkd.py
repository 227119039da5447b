"""RKD: distances and angles by plain loops, gradients, what they do not see, odd embeddings, and weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distiller_zoo import Weights
from distiller_zoo.rkd import angle_loss, angles, distance_loss, relative_distances
from tests import naive
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


def naive_distance(e_s, e_t):
    relative = []
    for e in (e_s, e_t):
        distances = [[((a - b) ** 2).sum() ** 0.5 for b in e] for a in e]
        positive = [d for row in distances for d in row if d > 0]
        relative.append([d / naive.mean(positive) for row in distances for d in row])
    return naive.mean([naive.huber(s - t) for s, t in zip(*relative, strict=True)])


def naive_angle(e_s, e_t):
    batch = range(len(e_s))
    triples = [(i, j, k) for i in batch for j in batch for k in batch]
    cosines = ([naive.cosine(e[j] - e[i], e[k] - e[i]) for i, j, k in triples] for e in (e_s, e_t))
    return naive.mean([naive.huber(s - t) for s, t in zip(*cosines, strict=True)])


LOSSES = {"distance": (distance_loss, naive_distance), "angle": (angle_loss, naive_angle)}
every_loss = pytest.mark.parametrize(("loss", "naive_loss"), LOSSES.values(), ids=LOSSES)


@every_loss
@every_dtype
@every_embedding_shape
def test_formula(loss, naive_loss, batch, width_s, width_t, dtype):
    e = maps_pair((batch, width_s), (batch, width_t), dtype)
    assert_near(loss(*e), naive_loss(*arrays(*e)))


@every_loss
def test_gradient(loss, naive_loss):
    assert_gradient(loss, *maps_pair((4, 3), (4, 5)))


def test_huber_turns_linear_beyond_one():
    """Five points in one place and one far off: relative distances that differ by more than 1."""
    e_s, e_t = normal(6, 3, seed=1), 0.001 * normal(6, 3, seed=2)
    e_t[0] += 1000
    assert (relative_distances(e_s) - relative_distances(e_t)).abs().max() > 1.5
    assert_near(distance_loss(e_s, e_t), naive_distance(*arrays(e_s, e_t)))


@few()
@given(seed=seeds, batch=st.integers(2, 7), width=st.integers(2, 9), scale=st.floats(0.1, 1000), data=st.data())
def test_what_it_does_not_see(seed, batch, width, scale, data):
    """Where the embeddings lie, how they are turned, their scale, and the order of the samples."""
    e, other = normal(batch, width, seed=seed), normal(batch, width, seed=seed + 1)
    moved = e @ torch.linalg.qr(normal(width, width, seed=seed + 2)).Q + normal(width, seed=seed + 3)
    order = torch.tensor(data.draw(st.permutations(range(batch))))
    for loss in (distance_loss, angle_loss):
        assert abs(loss(e, e)) < 1e-15
        assert loss(other, e) >= 0
        torch.testing.assert_close(loss(moved, other), loss(e, other), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(loss(scale * e, other), loss(e, other), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(loss(e[order], other[order]), loss(e, other))
    torch.testing.assert_close(relative_distances(e[order]), relative_distances(e)[order][:, order])
    torch.testing.assert_close(angles(e[order]), angles(e)[order][:, order][:, :, order])


@every_loss
def test_odd_embeddings(loss, naive_loss):
    for seed in range(10):
        e = normal(6, 64, seed=seed), normal(6, 64, seed=seed + 99)
        assert_finite_for_odd_inputs(loss, *e)


@pytest.mark.parametrize("weights", [{}, {"rkd_distance": 2.0, "rkd_angle": 3.0}])
def test_the_method_weighs_its_parts(weights):
    e = maps_pair((5, 4), (5, 7))
    losses = losses_of_embeddings(make("rkd", embedding_of(4), embedding_of(7), **weights), *e)
    assert list(losses) == ["rkd_distance", "rkd_angle"]
    assert_near(losses["rkd_distance"], weights.get("rkd_distance", 25) * naive_distance(*arrays(*e)))
    assert_near(losses["rkd_angle"], weights.get("rkd_angle", 50) * naive_angle(*arrays(*e)))


def test_published():
    assert_published("rkd", Weights(1, 0, 1), {"rkd_distance": 25.0, "rkd_angle": 50.0})
