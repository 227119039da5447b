"""VkD: the normalised loss and the orthogonal projection by plain loops, gradients, and that it stays orthogonal."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from distiller_zoo import Weights
from distiller_zoo.vkd import OrthogonalProjection, normalised_loss
from tests import naive
from tests.distiller_zoo.cases import (
    CNN,
    PAIRS,
    WIDE,
    assert_published,
    batch_of,
    features,
    losses_of_embeddings,
    make,
    maps_pair,
)
from tests.distiller_zoo.odd_inputs import assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


def naive_normalised(projected, e_t):
    total = []
    for row_s, row_t in zip(projected, e_t, strict=True):
        mean = sum(row_t) / len(row_t)
        variance = sum((value - mean) ** 2 for value in row_t) / len(row_t)
        total += [naive.huber(s - (t - mean) / (variance + 1e-5) ** 0.5) for s, t in zip(row_s, row_t, strict=True)]
    return naive.mean(total)


@every_dtype
@pytest.mark.parametrize("width", [3, 6])
def test_formula(width, dtype):
    e = normal(4, width, seed=1, dtype=dtype), 5 + 3 * normal(4, width, seed=2, dtype=dtype)
    assert_near(normalised_loss(*e), naive_normalised(*arrays(*e)))


def test_gradient_and_known_value():
    e_s, e_t = maps_pair((3, 4), (3, 4))
    assert_gradient(normalised_loss, e_s, e_t)
    assert_near(normalised_loss(F.layer_norm(e_t, (4,)), 2 * e_t + 1), 0, double=1e-6)


# --- the projection -------------------------------------------------------------------------------


@pytest.mark.parametrize(("width_in", "width_out"), [(3, 7), (7, 3), (5, 5), (1, 4)])
def test_the_projection_is_the_cayley_transform_and_stays_orthogonal(width_in, width_out):
    torch.manual_seed(0)
    projection = OrthogonalProjection(width_in, width_out).double()
    projection.start.copy_(torch.linalg.qr(projection.start).Q)  # orthogonal in double precision
    start = projection.start.T if width_in > width_out else projection.start
    assert_near(projection.matrix(), start.numpy())
    nn.init.normal_(projection.move)
    found = projection.matrix()
    assert found.shape == (width_out, width_in)
    gram = found.T @ found if width_in <= width_out else found @ found.T
    assert_near(gram, np.eye(min(width_in, width_out)))
    q, x = arrays(projection.start, projection.move)
    a = x @ q.T - q @ x.T
    expected = np.linalg.inv(np.eye(len(a)) - a / 2) @ (np.eye(len(a)) + a / 2) @ q
    assert_near(found, expected.T if width_in > width_out else expected)
    z = normal(4, width_in)
    assert_near(projection(z), z.numpy() @ found.detach().numpy().T)


def test_gradient_of_the_projection():
    projection = OrthogonalProjection(3, 5).double()

    def project(move):
        return torch.func.functional_call(projection, {"move": move}, (normal(2, 3),))

    assert_gradient(project, normal(5, 3))


def test_stays_orthogonal_while_it_learns():
    method = make("vkd").float()
    student, teacher = features(CNN, 1, 5, torch.float32), features(WIDE, 2, 5, torch.float32)
    optimizer, losses = torch.optim.SGD(method.parameters(), lr=0.5, momentum=0.9), []
    for _ in range(30):
        (loss,) = method.losses(student, (teacher,), batch_of(5)).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    found = method.project.matrix()
    np.testing.assert_allclose((found.T @ found).detach().numpy(), np.eye(6), atol=1e-5)


# --- the method -----------------------------------------------------------------------------------


def test_losses():
    method, student, teacher = make("vkd"), features(CNN, 1), features(WIDE, 2)
    losses = losses_of_embeddings(method, student.embedding, teacher.embedding)
    projected = student.embedding @ method.project.matrix().T
    assert list(losses) == ["vkd"]
    assert_near(losses["vkd"], naive_normalised(*arrays(projected, teacher.embedding)))


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_odd_features(pair):
    assert_method_stays_finite(lambda: make("vkd", *pair), *pair)


def test_published():
    assert_published("vkd", Weights(1, 1, 1))
