"""MLKD: its three levels by plain loops, gradients, known values, two views, two forms, and standardised logits."""

import numpy as np
import pytest
import torch

from distiller_zoo import METHODS, Weights
from distiller_zoo.mlkd import batch_loss, class_loss, published_losses, share_up_to_median
from models import Features
from tests import naive
from tests.distiller_zoo.cases import (
    LABELS,
    assert_published,
    batch_of,
    every_logits_shape,
    logits_pair,
    make,
    shapes,
)
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_logits, assert_no_giant_first_step
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal

LEVELS = ("mlkd_instance", "mlkd_batch", "mlkd_class")


def naive_gram_losses(logits_s, logits_t, temperature):
    """The batch level and the class level."""
    p_s, p_t = ([naive.softmax(row, temperature) for row in logits] for logits in (logits_s, logits_t))
    size, classes = len(p_s), len(p_s[0])
    of_batch = of_classes = 0.0
    for i in range(size):
        for j in range(size):
            gap = sum(p_t[i][k] * p_t[j][k] - p_s[i][k] * p_s[j][k] for k in range(classes))
            of_batch += gap**2 / size
    for k in range(classes):
        for m in range(classes):
            gap = sum(p_t[i][k] * p_t[i][m] - p_s[i][k] * p_s[i][m] for i in range(size))
            of_classes += gap**2 / classes
    return of_batch, of_classes


def naive_published(weak, strong, of_instances=lambda logits: logits):
    """Each view is its logits of student and teacher; `of_instances` is what those of the instance level go through."""
    weak_scored, strong_scored = ([of_instances(logits) for logits in view] for view in (weak, strong))
    p = np.array([naive.softmax(row) for row in weak[1]])

    def share(values):
        return np.mean(values <= np.percentile(values, 50))

    samples, classes = share(p.max(axis=1)), share(p.sum(axis=0))
    levels = dict.fromkeys(LEVELS, 0.0)
    for temperature in (4.0, 3.0, 5.0, 2.0, 6.0):
        levels["mlkd_instance"] += samples * naive.kd(*weak_scored, temperature)
        other = strong_scored if temperature in (3, 4, 5) else weak_scored
        levels["mlkd_instance"] += naive.kd(*other, temperature)
        of_batch, of_classes = naive_gram_losses(*weak, temperature)
        levels["mlkd_batch"] += samples * of_batch
        levels["mlkd_class"] += classes * of_classes
    return levels


def naive_symmetric(*views, of_instances=lambda logits: logits):
    levels = dict.fromkeys(LEVELS, 0.0)
    for view in views:
        for temperature in (2.0, 3.0, 4.0, 5.0, 6.0):
            of_batch, of_classes = naive_gram_losses(*view, temperature)
            levels["mlkd_instance"] += naive.kd(*(of_instances(logits) for logits in view), temperature)
            levels["mlkd_batch"] += of_batch
            levels["mlkd_class"] += of_classes
    return levels


NAIVE = {"published": naive_published, "symmetric": naive_symmetric}
every_form = pytest.mark.parametrize("form", NAIVE)


@every_dtype
@every_logits_shape
def test_formula(shape, dtype):
    weak, strong = logits_pair(shape, dtype), logits_pair(shape, dtype, seed=3)
    found = published_losses(weak, strong)
    assert tuple(found) == LEVELS
    for name, expected in naive_published(arrays(*weak), arrays(*strong)).items():
        assert_near(found[name], expected)


@pytest.mark.parametrize("loss", [batch_loss, class_loss])
def test_gradient(loss):
    assert_gradient(lambda s, t: loss(s, t, 2.0), *logits_pair())


@pytest.mark.parametrize("loss", [batch_loss, class_loss])
@pytest.mark.parametrize("seed", range(5))
def test_zero_for_equal_logits_and_not_otherwise(loss, seed):
    s, t = logits_pair(seed=10 * seed)
    assert loss(s, s, 2.0).abs() < 1e-12
    assert loss(s, t, 2.0) > 1e-3


def test_the_share_up_to_the_median():
    def share(*values):
        return share_up_to_median(torch.tensor(values)).item()

    assert [share(3.0, 1.0, 2.0, 9.0), share(2.0, 1.0), share(5.0)] == [0.5, 0.5, 1]
    assert share(1.0, 2.0, 3.0) == pytest.approx(2 / 3)
    assert [share(1.0, 1.0, 1.0, 2.0), share(1.0, 1.0)] == [0.75, 1]


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t: batch_loss(s, t, 2.0),
        lambda s, t: class_loss(s, t, 2.0),
        lambda s, t: sum(published_losses((s, t), (t, s.detach())).values()),
    ],
    ids=["batch", "class", "whole"],
)
def test_odd_logits(loss):
    assert_finite_for_odd_logits(loss, (3, 1))
    assert_no_giant_first_step(loss)


# --- the method -----------------------------------------------------------------------------------


def views():
    """The weak and the strong view, and logits of student and teacher that hold one after the other."""
    weak, strong = logits_pair(), logits_pair(seed=3)
    return arrays(*weak), arrays(*strong), [torch.cat(both) for both in zip(weak, strong, strict=True)]


def losses_of(method, s, t):
    return method.own_losses(Features(s), (Features(t),), batch_of(labels=LABELS.repeat(2)))


@every_form
def test_the_first_half_of_the_rows_is_the_weak_view(form):
    weak, strong, logits = views()
    found = losses_of(make("mlkd", shapes(), shapes(), mlkd_form=form), *logits)
    assert tuple(found) == LEVELS
    for name, expected in NAIVE[form](weak, strong).items():
        assert_near(found[name], expected)


@pytest.mark.parametrize("name", ["mlkd", "kd+mlkd"])
@every_form
def test_standardises_its_instance_level_alone(form, name):
    """As the authors of logit standardization do: levels of batch and classes and the masks see logits as they are."""
    weak, strong, logits = views()
    method = make(name, shapes(), shapes(), mlkd_form=form)
    for part in (method, *getattr(method, "methods", ())):
        part.logit_standardization = True
    found = losses_of(method, *logits)
    for level, expected in NAIVE[form](weak, strong, of_instances=naive.z_scored).items():
        assert_near(found[level], expected)
    plain = NAIVE[form](weak, strong)["mlkd_instance"]
    assert abs(found["mlkd_instance"].item() - plain) > 1e-3


def test_published():
    assert_published("mlkd", Weights(0.2, 0, 0.9), {"mlkd_form": "published"})
    assert METHODS["mlkd"].views == 2


def test_no_giant_first_step_of_the_whole_method():
    method = make("mlkd", shapes(), shapes(), torch.float32)
    student = torch.zeros(6, 5, requires_grad=True)
    sum(losses_of(method, student, 3 * normal(6, 5, dtype=torch.float32)).values()).backward()
    assert student.grad.abs().max() < 100
