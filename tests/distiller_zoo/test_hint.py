"""FitNet: the loss through each regressor by plain loops, which layer it reads, its optional first stage, options."""

import math

import pytest
import torch
from torch.nn import functional as F

from distiller_zoo import METHODS, Weights
from models import Features
from tests.distiller_zoo.cases import CNN, WIDE, assert_published, assert_refused, batch_of, features, make, shapes
from tests.distiller_zoo.odd_inputs import assert_method_stays_finite
from tests.distiller_zoo.test_maps import SIZES, naive_regressor
from tests.numerics import arrays, assert_near, every_dtype, normal


@every_dtype
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_through_each_regressor(source, target, dtype):
    of_s, of_t = shapes((3, 9, 9), (3, source, source)), shapes((4, 9, 9), (4, target, target))
    hint = make("hint", of_s, of_t, dtype)
    torch.nn.init.normal_(hint.regressor.bn.weight)
    torch.nn.init.normal_(hint.regressor.bn.bias)
    f_s, f_t = normal(3, *of_s.stages[1], seed=1, dtype=dtype), normal(3, *of_t.stages[1], seed=2, dtype=dtype)
    unread = f_s.new_full((), math.nan)
    student, teacher = (Features(unread, None, unread, (unread, f)) for f in (f_s, f_t))
    losses = hint.losses(student, (teacher,), batch_of())
    assert list(losses) == ["hint"]
    x, y = arrays(f_s, f_t)
    assert_near(losses["hint"], ((naive_regressor(hint.regressor, x, target) - y) ** 2).mean())


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_layers_count_from_the_stem(layer):
    hint, student, teacher = make("hint", hint_layer=layer), features(CNN, 1), features(WIDE, 2)
    f_s, f_t = (side.stem if layer == 0 else side.stages[layer - 1] for side in (student, teacher))
    assert_near(hint.loss(student, teacher, batch_of()), F.mse_loss(hint.regressor(f_s), f_t).item())


def test_odd_features():
    assert_method_stays_finite(lambda: make("hint"), CNN, WIDE)


def test_a_first_stage_trains_on_the_hint_alone():
    hint, student, teacher = make("hint", hint_epochs=3), features(CNN, 1), features(WIDE, 2)
    assert (hint.initial_epochs, hint.initial_trains_student) == (3, True)
    initial = hint.initial_losses(student, (teacher,), batch_of())
    assert initial == make("hint").losses(student, (teacher,), batch_of())
    assert all(p.requires_grad for p in hint.parameters())
    hint.end_initial_stage()
    assert hint.losses(student, (teacher,), batch_of()) == {}
    assert not any(p.requires_grad for p in hint.parameters())


def test_published():
    assert_published("hint", Weights(1, 0, 100), {"hint_layer": 2, "hint_epochs": 0})
    assert METHODS["fitnet"] is METHODS["hint"]


def test_refused_options():
    assert_refused("hint", hint_epochs=-1)
    assert_refused("hint", hint_layer=-1)
    assert_refused("hint", CNN, WIDE, hint_layer=4)  # the student has the stem and three stages
    make("hint", CNN, WIDE, hint_layer=3)
