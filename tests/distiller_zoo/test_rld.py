"""RLD: confidence and masked correlation by plain loops, gradients, known values, warm-up and options."""

import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.rld import confidence_loss, masked_correlation_loss
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

PARTS = {"confidence": confidence_loss, "correlation": masked_correlation_loss}
every_part = pytest.mark.parametrize("part", PARTS)


def naive_rld(logits_s, logits_t, labels, temperature=4.0):
    """Confidence and correlation."""
    confidence, correlation = [], []
    for s, t, y in zip(*(z.tolist() for z in arrays(logits_s, logits_t)), labels.tolist(), strict=True):
        favourite = t.index(max(t))
        b_s, b_t = naive.class_and_rest(s, y, temperature), naive.class_and_rest(t, favourite, temperature)
        confidence.append(temperature**2 * naive.kl(b_t, b_s))
        below = [k for k, value in enumerate(t) if value < t[y]]
        q_s, q_t = (naive.softmax([row[k] for k in below], temperature) if below else [] for row in (s, t))
        correlation.append(temperature**2 * naive.kl(q_t, q_s))
    return naive.mean(confidence), naive.mean(correlation)


@every_dtype
@every_logits_shape
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_formula(shape, temperature, dtype):
    (s, t), labels = logits_pair(shape, dtype), labels_for(shape)
    found = confidence_loss(s, t, labels, temperature), masked_correlation_loss(s, t, labels, temperature)
    assert_near(torch.stack(found), naive_rld(s, t, labels, temperature))


@every_part
def test_gradient(part):
    assert_gradient(lambda s, t: PARTS[part](s, t, LABELS, 4.0), *logits_pair())


@pytest.mark.parametrize("seed", range(5))
def test_no_correlation_is_lost_between_equal_logits(seed):
    s, _ = logits_pair(seed=10 * seed)
    assert masked_correlation_loss(s, s, LABELS, 4.0).abs() < 1e-12


def test_the_true_class_shall_be_as_sure_as_the_teachers_favourite():
    t = torch.tensor([[5.0, 1.0, 3.0, 0.0]]).double()
    label = torch.tensor([2])
    swapped = torch.tensor([[3.0, 1.0, 5.0, 0.0]]).double()
    assert_near(confidence_loss(swapped, t, label, 2.0), 0.0)
    assert confidence_loss(t, t, label, 2.0) > 0.1
    # Classes 1 and 3 rank below the label; what the student thinks of the others is its own business.
    free = torch.tensor([[-7.0, 1.5, 9.0, 0.5]]).double()
    assert_near(masked_correlation_loss(free, t, label, 2.0), 0.0)
    assert masked_correlation_loss(-t, t, label, 2.0) > 0.1


def test_no_correlation_where_the_label_ranks_last():
    t = torch.tensor([[5.0, 1.0, 3.0]])
    student = torch.tensor([[0.0, 4.0, -2.0]], requires_grad=True)
    loss = masked_correlation_loss(student, t, torch.tensor([1]), 4.0)
    loss.backward()
    assert loss == 0
    assert student.grad.tolist() == [[0, 0, 0]]


@every_part
def test_odd_logits(part):
    assert_finite_for_odd_logits(lambda s, t: PARTS[part](s, t, LABELS[: len(s)], 4.0))
    assert_no_giant_first_step(lambda s, t: PARTS[part](s, t, LABELS, 4.0))


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"rld_alpha": 3.0, "rld_beta": 0.0, "rld_T": 2.0}])
def test_losses(options):
    s, t = logits_pair()
    found = losses_of_logits("rld", s, t, **options)
    assert list(found) == ["rld_confidence", "rld_correlation"]
    confidence, correlation = naive_rld(s, t, LABELS, options.get("rld_T", 4.0))
    assert_near(found["rld_confidence"], options.get("rld_alpha", 1) * confidence)
    assert_near(found["rld_correlation"], options.get("rld_beta", 8) * correlation)


def test_warm_up_over_twenty_epochs():
    s, t = logits_pair()
    whole = losses_of_logits("rld", s, t, epoch=20)
    assert losses_of_logits("rld", s, t, epoch=21) == losses_of_logits("rld", s, t, epoch=1, rld_warmup=0) == whole
    for part, value in losses_of_logits("rld", s, t, epoch=5).items():
        assert_near(value, whole[part].item() / 4)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_label_of_a_mixed_image_is_that_of_its_larger_part(share):
    (s, t), others = logits_pair(), torch.tensor([4, 1, 0])
    batch = batch_of(targets=mixed_targets(LABELS, others, share))
    found = make("rld", shapes(), shapes()).losses(Features(s), (Features(t),), batch)
    confidence, correlation = naive_rld(s, t, LABELS if share > 0.5 else others)
    assert_near(sum(found.values()), confidence + 8 * correlation)


def test_published():
    assert_published(
        "rld", Weights(1, 0, 1), {"rld_alpha": 1.0, "rld_beta": 8.0, "rld_T": 4.0, "rld_warmup": 20}
    )  # fmt: skip


def test_refused_options():
    assert_refused("rld", rld_T=0.0)
    for option in ("rld_alpha", "rld_beta", "rld_warmup"):
        assert_refused("rld", **{option: -1})
        make("rld", **{option: 0})
