"""FT: both forms through its layers by plain loops, gradients, its initial stage, layers and options."""

from dataclasses import replace

import pytest
import torch

from distiller_zoo import METHODS, Weights
from distiller_zoo.attention import attention_map
from distiller_zoo.factor import factor_loss, whole_factor
from engine.protocol.recipes import resolve_recipe
from models import MODELS
from tests import naive
from tests.distiller_zoo.cases import (
    CNN,
    WIDE,
    assert_published,
    assert_refused,
    batch_of,
    features,
    make,
    maps_pair,
    shapes,
)
from tests.distiller_zoo.odd_inputs import ODD_MAPS, assert_finite_for_odd_inputs, assert_method_stays_finite
from tests.distiller_zoo.one_step import OneRun, features_of, plan_for
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype

OF_S, OF_T = shapes((3, 4, 4), (4, 2, 2)), shapes((3, 4, 4), (6, 4, 4))


NORMALISE = {False: attention_map, True: whole_factor}


def naive_factor(f_s, f_t, whole):
    """`whole`: all channels and positions are brought to length 1 together, instead of the attention map."""
    s, t = naive.common_size(f_s, f_t)
    seen = [[naive.unit(sample if whole else (sample**2).mean(axis=0)) for sample in f] for f in (s, t)]
    return naive.mean([float(abs(a - b).mean()) for a, b in zip(*seen, strict=True)])


@every_dtype
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("shape_t", [(2, 3, 4, 4), (2, 3, 8, 8), (2, 3, 3, 3)])
def test_formula(shape_t, whole, dtype):
    f = maps_pair((2, 3, 4, 4), shape_t, dtype)
    assert_near(factor_loss(*f, NORMALISE[whole]), naive_factor(*arrays(*f), whole))


@pytest.mark.parametrize("whole", [False, True])
def test_gradient_and_odd_maps(whole):
    s, t = maps_pair((2, 3, 4, 4), (2, 3, 2, 2))
    assert_gradient(lambda s: factor_loss(s, t, NORMALISE[whole]), s)
    assert_finite_for_odd_inputs(lambda s, t: factor_loss(s, t, NORMALISE[whole]), s, t, ODD_MAPS)


# --- the method -----------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("form", ["repdistiller", "paper"])
def test_through_its_layers(form, dtype):
    method = make("factor", OF_S, OF_T, dtype, ft_form=form)
    student, teacher = features(OF_S, 1, dtype=dtype), features(OF_T, 2, dtype=dtype)
    f_s, f_t = arrays(student.stages[-1], teacher.stages[-1])
    factor_t = naive.run_layers(method.paraphraser.encoder, f_t)
    again = naive.run_layers(method.paraphraser.decoder, factor_t)
    initial = method.initial_losses(None, (teacher,), batch_of())  # from teacher features alone
    assert list(initial) == ["paraphraser"]
    assert_near(initial["paraphraser"], ((again - f_t) ** 2).mean())
    found = method.losses(student, (teacher,), batch_of())
    assert list(found) == ["factor"]
    assert_near(found["factor"], naive_factor(naive.run_layers(method.translator, f_s), factor_t, form == "paper"))


@pytest.mark.parametrize(("rate", "width"), [(0.5, 3), (0.75, 4), (1.0, 6)])
def test_layers_of_paraphraser_and_translator(rate, width):
    method = make("factor", OF_S, OF_T, ft_rate=rate)
    encoder, decoder, translator = map(
        naive.described, (method.paraphraser.encoder, method.paraphraser.decoder, method.translator)
    )
    assert encoder == [(6, 6, 3), "LeakyReLU", (6, width, 3), "LeakyReLU", (width, width, 3), "LeakyReLU"]
    assert decoder == [(width, width, 3), "LeakyReLU", (width, 6, 3), "LeakyReLU", (6, 6, 3), "LeakyReLU"]
    norm = ["BatchNorm2d", "LeakyReLU"]
    assert translator == [(4, 4, 3), *norm, (4, width, 3), *norm, (width, width, 3), *norm]
    slopes = {layer.negative_slope for layer in method.modules() if isinstance(layer, torch.nn.LeakyReLU)}
    assert slopes == {0.1}


def test_the_initial_stage_trains_the_paraphraser_alone():
    method, teacher = make("factor", OF_S, OF_T), features(OF_T, 2)
    assert (method.initial_epochs, method.initial_trains_student) == (30, False)
    assert make("factor", OF_S, OF_T, init_epochs=7).initial_epochs == 7
    assert method.max_initial_rate == 0.01
    method.initial_losses(None, (teacher,), batch_of())["paraphraser"].backward()
    trained = {key.split(".")[0] for key, p in method.named_parameters() if p.grad is not None}
    assert trained == {"paraphraser"}


def test_the_paraphraser_stays_as_it_is_in_the_main_stage():
    method, student, teacher = make("factor", OF_S, OF_T), features(OF_S, 1), features(OF_T, 2)
    method.end_initial_stage()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    optimizer = torch.optim.AdamW(method.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        method.loss(student, teacher, batch_of()).backward()
        optimizer.step()
    moved = {key.split(".")[0] for key, value in method.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"translator"}
    assert {key.split(".")[0] for key, p in method.named_parameters() if p.requires_grad} == {"translator"}


@pytest.mark.parametrize(
    ("name", "given", "rate"),
    [
        ("factor", {"learning_rate": 0.05}, 0.01),
        ("factor", {"learning_rate": 0.002}, 0.002),
        ("factor+hint", {"learning_rate": 0.05}, 0.01),
        ("fsp", {"learning_rate": 0.05}, 0.05),  # has no highest rate of its own
    ],
)
def test_the_learning_rate_of_the_initial_stage(name, given, rate, tmp_path):
    """At most 0.01, and that of the recipe in the main stage."""
    run = OneRun(plan_for(name, "resnet8", "resnet8", warmup_epochs=0, **given), tmp_path)
    run.step()
    assert {group["lr"] for group in run.run.optimizer.param_groups} == {rate}
    run.begin_main_stage()
    run.step()
    assert {group["lr"] for group in run.run.optimizer.param_groups} == {given["learning_rate"]}


def test_the_paraphrasers_first_step(tmp_path):
    """0.01 times the gradient of the mean squared error, and of the weight decay beside it, as published."""
    plan = plan_for("factor", "resnet8", "resnet8")
    recipe = resolve_recipe("repdistiller", MODELS["resnet8"], {"weight_decay": 0.1})
    run = OneRun(replace(plan, recipe=recipe), tmp_path)
    paraphraser, f_t = run.run.method.paraphraser, features_of("resnet8", run.batch_size).stages[-1]
    before = {key: p.detach().clone() for key, p in paraphraser.named_parameters()}
    error = (paraphraser(f_t) - f_t).square().mean()
    gradients = torch.autograd.grad(error, list(paraphraser.parameters()))
    run.step()
    for (key, moved), gradient in zip(paraphraser.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(moved, before[key] - 0.01 * (gradient + 0.1 * before[key]), rtol=1e-5, atol=1e-7)


def test_odd_features():
    assert_method_stays_finite(lambda: make("factor"), CNN, WIDE)


def test_published():
    assert_published("factor", Weights(1, 0, 200), {"init_epochs": 30, "ft_rate": 0.5, "ft_form": "repdistiller"})
    assert METHODS["ft"] is METHODS["factor"]


def test_refused_options():
    assert_refused("factor", init_epochs=0)
    assert_refused("factor", ft_rate=0.01)  # of seven channels is none
