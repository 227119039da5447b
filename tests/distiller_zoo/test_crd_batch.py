"""crd_batch: the contrast within a batch by plain loops, its gradient, a known value, and options."""

import math

import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.crd_batch import batch_contrast
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
from tests.distiller_zoo.odd_inputs import assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, unit


def naive_batch_contrast(z_s, z_t, temperature):
    return naive.contrast_with_diagonal([[(a * b).sum() / temperature for b in z_t] for a in z_s])


@every_dtype
@pytest.mark.parametrize(("batch", "width"), [(1, 3), (4, 5), (9, 2)])
def test_formula(batch, width, dtype):
    z = unit(batch, width, seed=1, dtype=dtype), unit(batch, width, seed=2, dtype=dtype)
    assert_near(batch_contrast(*z, 0.07), naive_batch_contrast(*arrays(*z), 0.07))


def test_gradient():
    assert_gradient(lambda s, t: batch_contrast(s, t, 0.5), *maps_pair((3, 4), (3, 4)))


def test_orthogonal_samples():
    """Each positive has cosine 1, each negative 0."""
    z = torch.eye(4, dtype=torch.float64)
    assert_near(batch_contrast(z, z, 0.07), math.log1p(3 * math.exp(-1 / 0.07)))


@pytest.mark.parametrize("options", [{}, {"nce_t": 0.2, "feat_dim": 4}])
def test_losses(options):
    method, (e_s, e_t) = make("crd_batch", embedding_of(5), embedding_of(6), **options), maps_pair((5, 5), (5, 6))
    z_s, z_t = naive.embed(method.embed_s, *arrays(e_s)), naive.embed(method.embed_t, *arrays(e_t))
    losses = losses_of_embeddings(method, e_s, e_t)
    assert list(losses) == ["crd_batch"]
    assert_near(losses["crd_batch"], naive_batch_contrast(z_s, z_t, options.get("nce_t", 0.07)))
    losses["crd_batch"].backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in (method.embed_s, method.embed_t))


def test_odd_embeddings():
    assert_method_stays_finite(lambda: make("crd_batch", CNN, CNN), CNN, CNN)


def test_published():
    assert_published("crd_batch", Weights(1, 0, 0.8), {"feat_dim": 128, "nce_t": 0.07})


def test_refused_options():
    assert_refused("crd_batch", nce_t=0.0)
    assert_refused("crd_batch", feat_dim=0)
