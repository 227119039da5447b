"""ICD: invariance and the whole loss by plain loops, gradients, known values, its learned scale, and options."""

import math

import pytest
import torch

from distiller_zoo import METHODS, Weights
from distiller_zoo.icd import invariance_loss
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
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal

PAIR = embedding_of(5), embedding_of(6)
E_S, E_T = maps_pair((5, 5), (5, 6))


def naive_invariance(scores):
    """KL of how the teacher sees the samples (columns) from how the student does (rows)."""
    rows, columns = map(naive.softmax, scores), map(naive.softmax, zip(*scores, strict=True))
    return naive.mean([naive.kl(q, p) for p, q in zip(rows, columns, strict=True)])


@every_dtype
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_formula(batch, dtype):
    scores = 3 * normal(batch, batch, dtype=dtype)
    assert_near(invariance_loss(scores), naive_invariance(*arrays(scores)))


def test_gradient():
    assert_gradient(invariance_loss, normal(4, 4))


def test_invariance_is_zero_for_symmetric_scores():
    scores = normal(6, 6)
    assert_near(invariance_loss(scores + scores.T), 0)
    assert_near(invariance_loss(torch.zeros(5, 5, dtype=torch.float64)), 0)
    assert invariance_loss(scores) > 0.01


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"feat_dim": 4, "icd_alpha": 0.3}])
def test_losses(options):
    method = make("icd", *PAIR, **options)
    with torch.no_grad():
        method.b.fill_(0.7)
    z_s, z_t = naive.embed(method.embed_s, *arrays(E_S)), naive.embed(method.embed_t, *arrays(E_T))
    scores = [[math.e * (a * b).sum() + 0.7 for b in z_t] for a in z_s]
    losses = losses_of_embeddings(method, E_S, E_T)
    assert list(losses) == ["icd_contrast", "icd_invariance"]
    assert_near(losses["icd_contrast"], naive.contrast_with_diagonal(scores))
    assert_near(losses["icd_invariance"], options.get("icd_alpha", 0.5) * naive_invariance(scores))
    assert method.embed_s.out_features == method.embed_t.out_features == options.get("feat_dim", 128)


def test_starts_as_published_and_trains_its_scale_and_both_embeddings():
    method = make("icd", *PAIR)
    assert (method.t.item(), method.b.item()) == (1, 0)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    assert {id(method.t), id(method.b)} <= {id(p) for group in optimizer.param_groups for p in group["params"]}
    sum(losses_of_embeddings(method, E_S, E_T).values()).backward()
    assert abs(method.t.grad.item()) > 1e-3
    assert abs(method.b.grad.item()) < 1e-12  # no softmax sees it
    assert method.embed_s.weight.grad.abs().sum() > 0
    assert method.embed_t.weight.grad.abs().sum() > 0
    optimizer.step()
    assert method.t.item() != 1


def test_the_scale_ends_at_ten():
    method = make("icd", *PAIR)
    losses = []
    for t in (math.log(10), 5.0):
        with torch.no_grad():
            method.t.fill_(t)
        losses.append(sum(losses_of_embeddings(method, E_S, E_T).values()))
    assert_near(losses[0], losses[1].item())


def test_odd_embeddings():
    assert_method_stays_finite(lambda: make("icd", CNN, CNN), CNN, CNN)


def test_published():
    assert_published("icd", Weights(1, 0, 1), {"feat_dim": 128, "icd_alpha": 0.5})
    assert METHODS["dcd"] is METHODS["icd"]


def test_refused_options():
    assert_refused("icd", feat_dim=0)
    assert_refused("icd", icd_alpha=-1.0)
