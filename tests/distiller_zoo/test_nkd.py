"""NKD: its two cross-entropies by plain loops, their gradients, known values and options."""

import math

import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.nkd import others_loss, target_loss
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
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype

PARTS = {
    "target": lambda s, t: target_loss(s, t, LABELS[: len(s)]),
    "others": lambda s, t: others_loss(s, t, LABELS[: len(s)], 2.0),
}
every_part = pytest.mark.parametrize("part", PARTS)


def naive_target(logits_s, logits_t, labels):
    rows = zip(*arrays(logits_s, logits_t), labels.tolist(), strict=True)
    return -naive.mean([naive.softmax(t)[y] * math.log(naive.softmax(s)[y]) for s, t, y in rows])


def naive_others(logits_s, logits_t, labels, temperature):
    total = []
    for s, t, y in zip(*arrays(logits_s, logits_t), labels.tolist(), strict=True):
        q_s, q_t = (naive.softmax_of_others(row, y, temperature) for row in (s, t))
        total.append(-(temperature**2) * sum(a * math.log(b) for a, b in zip(q_t, q_s, strict=True)))
    return naive.mean(total)


@every_dtype
@every_logits_shape
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_formula(shape, temperature, dtype):
    logits, labels = logits_pair(shape, dtype), labels_for(shape)
    assert_near(target_loss(*logits, labels), naive_target(*logits, labels))
    assert_near(others_loss(*logits, labels, temperature), naive_others(*logits, labels, temperature))


@every_part
def test_gradient(part):
    assert_gradient(PARTS[part], *logits_pair())


def test_equal_predictions_leave_the_entropy_of_the_others():
    t = torch.tensor([[6.0, 1.0, 2.0, 1.0]]).double().log()
    label = torch.tensor([0])
    assert_near(target_loss(t, t, label), -0.6 * math.log(0.6))
    entropy = -(2 * 0.25 * math.log(0.25) + 0.5 * math.log(0.5))
    assert_near(others_loss(t, t, label, 1.0), entropy)


def test_two_classes_leave_nothing_beside_the_label():
    assert others_loss(*logits_pair((4, 2)), torch.tensor([0, 1, 1, 0]), 1.0) == 0


@every_part
def test_odd_logits(part):
    assert_finite_for_odd_logits(PARTS[part])
    assert_no_giant_first_step(PARTS[part])


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"nkd_gamma": 0.5, "nkd_T": 2.0}])
def test_losses(options):
    s, t = logits_pair()
    found = losses_of_logits("nkd", s, t, **options)
    assert list(found) == ["nkd_target", "nkd_others"]
    assert_near(found["nkd_target"], naive_target(s, t, LABELS))
    expected = options.get("nkd_gamma", 1.5) * naive_others(s, t, LABELS, options.get("nkd_T", 1.0))
    assert_near(found["nkd_others"], expected)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_label_of_a_mixed_image_is_that_of_its_larger_part(share):
    (s, t), others = logits_pair(), torch.tensor([4, 1, 0])
    batch = batch_of(targets=mixed_targets(LABELS, others, share))
    found = make("nkd", shapes(), shapes()).losses(Features(s), (Features(t),), batch)
    main = LABELS if share > 0.5 else others
    assert_near(sum(found.values()), naive_target(s, t, main) + 1.5 * naive_others(s, t, main, 1.0))


def test_published():
    assert_published("nkd", Weights(1, 0, 1), {"nkd_gamma": 1.5, "nkd_T": 1.0})


def test_refused_options():
    assert_refused("nkd", nkd_T=0.0)
    assert_refused("nkd", nkd_gamma=-1.0)
    make("nkd", nkd_gamma=0.0)
