"""OFA: the enhanced target by plain loops, its gradient, known values, both losses of the method, and options."""

import math

import pytest
import torch
from torch.nn import functional as F

from distiller_zoo import Weights
from distiller_zoo.ofa import ofa_loss, target_of_code, target_of_paper
from tests import naive
from tests.distiller_zoo.cases import (
    CNN,
    LABELS,
    MLP,
    PAIRS,
    assert_published,
    assert_refused,
    batch_of,
    features,
    labels_for,
    logits_pair,
    make,
    mixed_targets,
)
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_logits, assert_method_stays_finite, without
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal

TARGETS = {"code": target_of_code, "paper": target_of_paper}
every_form = pytest.mark.parametrize("form", TARGETS)


def naive_ofa(logits_s, logits_t, labels, gamma=1.0, temperature=1.0, form="code"):
    total = []
    for row_s, row_t, label in zip(logits_s, logits_t, labels.tolist(), strict=True):
        log_s, p_t = naive.log_softmax(row_s, temperature), naive.softmax(row_t, temperature)
        for c, (log, p) in enumerate(zip(log_s, p_t, strict=True)):
            if form == "paper":
                weight = (1 + p) ** gamma if c == label else p
            else:
                weight = (1 + p) ** gamma - 1 if c == label else p**gamma
            total.append(-weight * log)
    return math.fsum(total) / len(logits_s)


@every_dtype
@every_form
@pytest.mark.parametrize(("gamma", "temperature"), [(1.0, 1.0), (1.5, 1.0), (0.7, 4.0)])
@pytest.mark.parametrize("shape", [(1, 2), (5, 7)])
def test_formula(shape, gamma, temperature, form, dtype):
    logits, labels = logits_pair(shape, dtype), labels_for(shape)
    expected = naive_ofa(*arrays(*logits), labels, gamma, temperature, form)
    assert_near(ofa_loss(*logits, labels, gamma, temperature, TARGETS[form]), expected)


@every_form
def test_gradient_and_odd_logits(form):
    s, t = logits_pair()
    assert_gradient(lambda s: ofa_loss(s, t, LABELS, 1.4, 2.0, TARGETS[form]), s)
    for gamma in (1.0, 1.5):
        assert_finite_for_odd_logits(lambda s, t: ofa_loss(s, t, LABELS, gamma, 1.0, TARGETS[form]))  # noqa: B023


def test_gamma_of_one_asks_for_no_label():
    logits_s, logits_t = normal(4, 5, seed=1), normal(4, 5, seed=2)
    cross_entropy = -(logits_t.softmax(dim=1) * logits_s.log_softmax(dim=1)).sum(dim=1).mean()
    for labels in (torch.zeros(4, dtype=torch.int64), torch.arange(4)):
        assert_near(ofa_loss(logits_s, logits_t, labels, 1.0, 1.0), cross_entropy.item())
        with_labels = cross_entropy + F.cross_entropy(logits_s, labels)
        assert_near(ofa_loss(logits_s, logits_t, labels, 1.0, 1.0, target=target_of_paper), with_labels.item())


def test_a_label_counts_more_where_the_teacher_trusts_it():
    """γ = 2 and two classes, p_t = ½: the label counts (3/2)² − 1 = 5/4, the other class 1/4."""
    logits = torch.zeros(1, 2, dtype=torch.float64)
    student = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)  # ¾ and ¼
    expected = -(5 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    assert_near(ofa_loss(student, logits, torch.tensor([0]), 2.0, 1.0), expected)
    expected = -(9 / 4 * math.log(3 / 4) + 1 / 2 * math.log(1 / 4))
    assert_near(ofa_loss(student, logits, torch.tensor([0]), 2.0, 1.0, target=target_of_paper), expected)


# --- the method -----------------------------------------------------------------------------------


@every_form
def test_losses(form):
    method = make("ofa", MLP, CNN, ofa_weight=0.3, ofa_gamma=1.5, ofa_temperature=2.0, ofa_form=form)
    student, teacher, batch = features(MLP, 1), features(CNN, 2), batch_of()
    settings = (batch.labels, 1.5, 2.0, form)
    losses = method.losses(student, (teacher,), batch)
    assert list(losses) == ["ofa_logits", "ofa_exits"]
    assert_near(losses["ofa_logits"], naive_ofa(*arrays(student.logits, teacher.logits), *settings))
    exits = [leave(f) for leave, f in zip(method.exits, student.stages, strict=True)]
    expected = sum(naive_ofa(*arrays(logits, teacher.logits), *settings) for logits in exits)
    assert_near(losses["ofa_exits"], 0.3 * expected)


def test_exits_are_standardised_like_the_teacher():
    method = make("ofa", MLP, CNN, ofa_weight=0.3, ofa_gamma=1.5)
    method.logit_standardization = True
    student, teacher, batch = features(MLP, 1), features(CNN, 2), batch_of()
    losses = method.own_losses(student, (teacher,), batch)

    def expected(logits):
        return naive_ofa(*map(naive.z_scored, arrays(logits, teacher.logits)), batch.labels, 1.5)

    assert_near(losses["ofa_logits"], expected(student.logits))
    exits = [leave(f) for leave, f in zip(method.exits, student.stages, strict=True)]
    assert_near(losses["ofa_exits"], 0.3 * sum(map(expected, exits)))


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_label_of_a_mixed_image_is_that_of_its_larger_part(share):
    method, student, teacher = make("ofa", MLP, CNN, ofa_gamma=1.5), features(MLP, 1), features(CNN, 2)
    others = (LABELS + 1) % 5
    batch = batch_of(targets=mixed_targets(LABELS, others, share))
    found = method.losses(student, (teacher,), batch)["ofa_logits"]
    main = LABELS if share > 0.5 else others
    assert_near(found, naive_ofa(*arrays(student.logits, teacher.logits), main, 1.5))


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("options", [{}, {"ofa_form": "paper", "ofa_gamma": 1.5}])
def test_odd_features(pair, options):
    kinds = without("a batch of one")  # batch norm needs two
    assert_method_stays_finite(lambda: make("ofa", *pair, **options), *pair, kinds)


def test_published():
    options = {"ofa_gamma": 1.0, "ofa_temperature": 1.0, "ofa_weight": 0.1, "ofa_form": "code"}
    assert_published("ofa", Weights(1, 0, 1), options)


def test_refused_options():
    for option, value in (("ofa_gamma", 0.0), ("ofa_temperature", -1.0), ("ofa_weight", 0.0)):
        assert_refused("ofa", **{option: value})
