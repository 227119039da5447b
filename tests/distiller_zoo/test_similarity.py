"""SP: the loss by plain loops, its gradient, what it does not see, odd maps, and which maps the method reads."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from distiller_zoo import METHODS, Weights
from distiller_zoo.similarity import similarity_loss, similarity_matrix
from tests import naive
from tests.distiller_zoo.cases import CNN, WIDE, assert_published, batch_of, every_map_shape, features, make, maps_pair
from tests.distiller_zoo.odd_inputs import ODD_MAPS, assert_finite_for_odd_inputs
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, few, normal, seeds


def naive_similarity(f_s, f_t):
    rows = [np.array([naive.unit(row) for row in naive.gram(f)]) for f in (f_s, f_t)]
    return ((rows[1] - rows[0]) ** 2).sum() / len(f_s) ** 2


@every_dtype
@every_map_shape
def test_formula(shape_s, shape_t, dtype):
    maps = maps_pair(shape_s, shape_t, dtype)
    assert_near(similarity_loss(*maps), naive_similarity(*arrays(*maps)))


def test_gradient():
    assert_gradient(similarity_loss, *maps_pair((3, 2, 2, 2), (3, 4, 1, 1)))


def test_of_known_samples():
    """The teacher tells two samples apart, the student does not: each of four entries is off by 1/√2 or 1 − 1/√2."""
    loss = similarity_loss(torch.ones(2, 1, 1, 1).double(), torch.eye(2).double().view(2, 2, 1, 1))
    assert_near(loss, (2 * 0.5 + 2 * (1 - math.sqrt(0.5)) ** 2) / 4)


@few()
@given(seed=seeds, batch=st.integers(2, 7), width=st.integers(2, 9), data=st.data())
def test_what_it_does_not_see(seed, batch, width, data):
    """The scale of the maps, and the order of the samples."""
    f, other = normal(batch, width, 2, 2, seed=seed), normal(batch, width, 2, 2, seed=seed + 1)
    assert abs(similarity_loss(2.5 * f, f)) < 1e-15
    assert similarity_loss(other, f) > 0
    order = torch.tensor(data.draw(st.permutations(range(batch))))
    torch.testing.assert_close(similarity_matrix(f[order]), similarity_matrix(f)[order][:, order])
    torch.testing.assert_close(similarity_loss(f[order], other[order]), similarity_loss(f, other))
    torch.testing.assert_close(similarity_matrix(f).norm(dim=1), torch.ones(batch).double())


def test_odd_maps():
    assert_finite_for_odd_inputs(similarity_loss, *maps_pair((4, 3, 4, 4), (4, 5, 2, 2)), ODD_MAPS)


def test_the_method_reads_the_last_stages():
    student, teacher = features(CNN, 1), features(WIDE, 2)
    losses = make("similarity").losses(student, (teacher,), batch_of())
    assert list(losses) == ["similarity"]
    assert_near(losses["similarity"], naive_similarity(*arrays(student.stages[-1], teacher.stages[-1])))


def test_published():
    assert_published("similarity", Weights(1, 0, 3000))
    assert METHODS["sp"] is METHODS["similarity"]
