"""token_bridge: distances by stages by plain loops, resizing, gradients, known values and weights."""

import numpy as np
import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.token_bridge import bridge_loss, to_size
from tests import naive
from tests.distiller_zoo.cases import CNN, MLP, PAIRS, assert_published, batch_of, features, make, maps_pair
from tests.distiller_zoo.odd_inputs import assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal

DISTANCES = {"cosine": True, "mse": False}
every_distance = pytest.mark.parametrize("distance", DISTANCES)


def naive_bridge(f_s, f_t, distance):
    if distance == "mse":
        return ((f_s - f_t) ** 2).mean()
    places = [(b, h, w) for b in range(len(f_s)) for h in range(f_s.shape[2]) for w in range(f_s.shape[3])]
    return 1 - naive.mean([naive.cosine(f_s[b, :, h, w], f_t[b, :, h, w]) for b, h, w in places])


@every_distance
@every_dtype
def test_formula(distance, dtype):
    f = maps_pair((2, 3, 4, 5), (2, 3, 4, 5), dtype)
    assert_near(bridge_loss(*f, DISTANCES[distance]), naive_bridge(*arrays(*f), distance))


@every_distance
def test_gradient(distance):
    assert_gradient(lambda s, t: bridge_loss(s, t, DISTANCES[distance]), *maps_pair((2, 3, 2, 2), (2, 3, 2, 2)))


@every_distance
def test_equal_maps_are_at_no_distance(distance):
    f = normal(3, 4, 3, 3)
    assert_near(bridge_loss(f, f, DISTANCES[distance]), 0)


def test_to_size():
    f = torch.arange(16, dtype=torch.float64).view(1, 1, 4, 4)
    assert to_size(f, (4, 4)) is f
    assert to_size(f, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    grown = to_size(f, (8, 8))[0, 0]
    assert grown.shape == (8, 8)
    assert grown[0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]  # pixels are areas
    both = to_size(f, (2, 8))[0, 0]
    assert both[:, 0].tolist() == [2, 10]
    np.testing.assert_allclose(both[0].numpy(), grown[0].numpy() + 2)


@every_distance
@pytest.mark.parametrize(
    ("of_s", "of_t", "pairs"),
    [(MLP, CNN, [(1, 0), (2, 1), (3, 2)]), (CNN, MLP, [(0, 1), (1, 2), (2, 3)]), (CNN, CNN, [(0, 0), (1, 1), (2, 2)])],
)
def test_losses(of_s, of_t, pairs, distance):
    method = make("token_bridge", of_s, of_t, bridge_distance=distance)
    student, teacher = features(of_s, 1, batch=2), features(of_t, 2, batch=2)
    expected = []
    for (i, j), layer in zip(pairs, method.projections, strict=True):
        projected = naive.convolve(layer, student.stages[i].numpy())
        expected.append(naive_bridge(projected, *arrays(to_size(teacher.stages[j], projected.shape[2:])), distance))
    losses = method.losses(student, (teacher,), batch_of(2))
    assert list(losses) == ["token_bridge"]
    assert_near(losses["token_bridge"], np.mean(expected))


@every_distance
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_odd_features(pair, distance):
    assert_method_stays_finite(lambda: make("token_bridge", *pair, bridge_distance=distance), *pair)


def test_published():
    assert_published("token_bridge", Weights(1, 0, 1), {"bridge_distance": "cosine"})
