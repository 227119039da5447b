"""WSLD: the weighted soft loss by plain loops, its gradient, known weights and options."""

import math

import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.wsld import soft_label_weights, weighted_soft_loss
from models import Features
from tests import naive
from tests.distiller_zoo.cases import (
    LABELS,
    assert_published,
    assert_refused,
    batch_of,
    every_logits_shape,
    labels_for,
    logits_pair,
    losses_of_logits,
    make,
    mixed_targets,
    shapes,
)
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_logits, assert_no_giant_first_step
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


def naive_wsld(logits_s, logits_t, labels, temperature=4.0):
    total = []
    for s, t, y in zip(*arrays(logits_s, logits_t), labels.tolist(), strict=True):
        ce_s, ce_t = -math.log(naive.softmax(s)[y]), -math.log(naive.softmax(t)[y])
        weight = 1 - math.exp(-ce_s / (ce_t + 1e-7))
        p_s, p_t = naive.softmax(s, temperature), naive.softmax(t, temperature)
        total.append(-weight * temperature**2 * sum(a * math.log(b) for a, b in zip(p_t, p_s, strict=True)))
    return naive.mean(total)


def whole_loss(s, t):
    return weighted_soft_loss(s, t, soft_label_weights(s, t, LABELS[: len(s)]), 4.0)


@every_dtype
@every_logits_shape
def test_formula(shape, dtype):
    (s, t), labels = logits_pair(shape, dtype), labels_for(shape)
    assert_near(weighted_soft_loss(s, t, soft_label_weights(s, t, labels), 4.0), naive_wsld(s, t, labels))


def test_gradient():
    weights = torch.tensor([0.3, 1.0, 0.6])
    assert_gradient(lambda s, t: weighted_soft_loss(s, t, weights, 4.0), *logits_pair())


def test_weights_of_samples():
    """Student and teacher alike: 1 − 1/e; a student that knows: 0; a teacher that knows where it does not: 1."""
    sharp, flat = torch.tensor([[30.0, 0.0]]).double(), torch.tensor([[0.0, 0.0]]).double()
    label = torch.tensor([0])
    assert_near(soft_label_weights(flat, flat, label), [1 - math.exp(-1 / (1 + 1e-7 / math.log(2)))])
    assert soft_label_weights(sharp, flat, label) < 1e-12
    assert_near(soft_label_weights(flat, sharp, label), [1.0])


def test_weights_have_no_gradient():
    assert not soft_label_weights(normal(3, 5).requires_grad_(), normal(3, 5, seed=1), LABELS).requires_grad


def test_odd_logits():
    assert_finite_for_odd_logits(whole_loss)
    assert_no_giant_first_step(whole_loss)
    assert_no_giant_first_step(lambda s, t: weighted_soft_loss(s, t, torch.ones(len(s)), 4.0))


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"wsld_T": 2.0}])
def test_losses(options):
    s, t = logits_pair()
    found = losses_of_logits("wsld", s, t, **options)
    assert list(found) == ["wsld"]
    assert_near(found["wsld"], naive_wsld(s, t, LABELS, options.get("wsld_T", 4.0)))


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_label_of_a_mixed_image_is_that_of_its_larger_part(share):
    (s, t), others = logits_pair(), torch.tensor([4, 1, 0])
    batch = batch_of(targets=mixed_targets(LABELS, others, share))
    found = make("wsld", shapes(), shapes()).losses(Features(s), (Features(t),), batch)
    assert_near(found["wsld"], naive_wsld(s, t, LABELS if share > 0.5 else others))


def test_published():
    assert_published("wsld", Weights(1, 0, 2.25), {"wsld_T": 4.0})


def test_refused_options():
    assert_refused("wsld", wsld_T=0.0)
