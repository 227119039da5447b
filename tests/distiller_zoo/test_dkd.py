"""DKD: its two divergences by plain loops, their gradients, known values, weights, warm-up and options."""

import math

import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.dkd import nckd_of_each, tckd_of_each
from distiller_zoo.kd import kd_loss
from distiller_zoo.predictions import class_against_rest
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
    "tckd": (tckd_of_each, naive.tckd_of_one),
    "nckd": (nckd_of_each, naive.nckd_of_one),
}
every_part = pytest.mark.parametrize("part", PARTS)


def naive_dkd(logits_s, logits_t, labels, alpha, beta, temperature=4.0):
    rows = zip(*arrays(logits_s, logits_t), labels.tolist(), strict=True)
    return naive.mean([naive.dkd_of_one(s, t, label, alpha, beta, temperature) for s, t, label in rows])


@every_part
@every_dtype
@every_logits_shape
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_formula(shape, temperature, dtype, part):
    loss, of_one = PARTS[part]
    logits, labels = logits_pair(shape, dtype), labels_for(shape)
    rows = zip(*arrays(*logits), labels.tolist(), strict=True)
    assert_near(loss(*logits, labels, temperature), [of_one(s, t, label, temperature) for s, t, label in rows])


@every_part
def test_gradient(part):
    assert_gradient(lambda s, t: PARTS[part][0](s, t, LABELS, 4.0), *logits_pair())


@every_part
@pytest.mark.parametrize("seed", range(5))
def test_zero_for_equal_logits_and_not_otherwise(part, seed):
    s, t = logits_pair(seed=10 * seed)
    assert PARTS[part][0](s, s, LABELS, 4.0).abs().max() < 1e-12
    assert PARTS[part][0](s, t, LABELS, 4.0).mean() > 1e-3


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_both_parts_are_the_whole_of_kd(temperature):
    """KL = TCKD + (1 − p_t,y)·NCKD for each sample (eq. 6)."""
    s, t = logits_pair((6, 9))
    labels = labels_for((6, 9))
    doubt = class_against_rest(t / temperature, labels)[:, 1].exp()
    whole = tckd_of_each(s, t, labels, temperature) + doubt * nckd_of_each(s, t, labels, temperature)
    assert_near(whole.mean(), kd_loss(s, t, temperature).item())


def test_known_values():
    """Probabilities (½, ¼, ¼) against (¼, ½, ¼); the label is the first class."""
    t, s = torch.tensor([[2.0, 1.0, 1.0]]).double().log(), torch.tensor([[1.0, 2.0, 1.0]]).double().log()
    label = torch.tensor([0])
    assert_near(tckd_of_each(s, t, label, 1.0), [0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)])
    assert_near(nckd_of_each(s, t, label, 1.0), [0.5 * math.log(0.5 / (2 / 3)) + 0.5 * math.log(0.5 / (1 / 3))])


def test_two_classes_leave_nothing_beside_the_label():
    s, t = logits_pair((4, 2))
    assert nckd_of_each(s, t, torch.tensor([0, 1, 1, 0]), 4.0).tolist() == [0, 0, 0, 0]


@every_part
def test_odd_logits(part):
    assert_finite_for_odd_logits(lambda s, t: PARTS[part][0](s, t, LABELS[: len(s)], 4.0))
    assert_no_giant_first_step(lambda s, t: PARTS[part][0](s, t, LABELS, 4.0))


# --- the method -----------------------------------------------------------------------------------


def test_losses():
    s, t = logits_pair()
    found = losses_of_logits("dkd", s, t)
    assert list(found) == ["dkd_target", "dkd_others"]
    assert_near(found["dkd_target"], naive_dkd(s, t, LABELS, 1, 0))
    assert_near(found["dkd_others"], naive_dkd(s, t, LABELS, 0, 8))


def test_options_weigh_the_parts():
    s, t = logits_pair()
    found = losses_of_logits("dkd", s, t, dkd_alpha=3.0, dkd_beta=0.0, dkd_T=2.0)
    assert_near(found["dkd_target"], naive_dkd(s, t, LABELS, 3, 0, 2.0))
    assert found["dkd_others"] == 0


def test_warm_up_over_twenty_epochs():
    s, t = logits_pair()
    whole = losses_of_logits("dkd", s, t, epoch=20)
    assert losses_of_logits("dkd", s, t, epoch=21) == losses_of_logits("dkd", s, t, epoch=1, dkd_warmup=0) == whole
    for part, value in losses_of_logits("dkd", s, t, epoch=5).items():
        assert_near(value, whole[part].item() / 4)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_label_of_a_mixed_image_is_that_of_its_larger_part(share):
    (s, t), others = logits_pair(), torch.tensor([4, 1, 0])
    batch = batch_of(targets=mixed_targets(LABELS, others, share))
    found = make("dkd", shapes(), shapes()).losses(Features(s), (Features(t),), batch)
    assert_near(sum(found.values()), naive_dkd(s, t, LABELS if share > 0.5 else others, 1, 8))


def test_published():
    assert_published(
        "dkd", Weights(1, 0, 1), {"dkd_alpha": 1.0, "dkd_beta": 8.0, "dkd_T": 4.0, "dkd_warmup": 20}
    )  # fmt: skip


def test_refused_options():
    assert_refused("dkd", dkd_T=0.0)
    for option in ("dkd_alpha", "dkd_beta", "dkd_warmup"):
        assert_refused("dkd", **{option: -1})
        make("dkd", **{option: 0})
