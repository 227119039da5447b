"""Plans: what `make_plan` resolves, and that settings that cannot affect a run are no part of it."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from distiller_zoo import METHODS, Weights
from engine.protocol.options import DEFAULT_KD_T, default_options
from engine.protocol.plan import RunPlan, SharedSettings, TeacherFile, Trial, make_plan, without_idle_settings
from engine.protocol.recipes import resolve_recipe
from engine.protocol.retrospection_plan import RetrospectionPlan
from models import MODELS

RECIPE = resolve_recipe("repdistiller", MODELS["resnet20"], {"epochs": 60})
TEACHER = TeacherFile("resnet56", Path("t"), "0" * 64)
SHARED = SharedSettings("student", "cifar100", "fp32", teachers=(TEACHER,))


def test_a_plan_has_the_published_values_of_its_method():
    plan = make_plan("dkd", "resnet20", RECIPE, SHARED)
    assert plan.weights == METHODS["dkd"].weights
    assert plan.options == default_options("dkd", RECIPE)
    assert (plan.trial, plan.seed, plan.kd_T, plan.teachers) == (1, 1, DEFAULT_KD_T, (TEACHER,))


def test_given_values_come_first():
    shared = replace(SHARED, given_options={"dkd_T": 2.0, "hint_layer": 1}, save_freq=7, validation=500)
    plan = make_plan("dkd", "resnet20", RECIPE, shared, Trial(3, 99), Weights(1, 2, 3))
    assert plan.options == default_options("dkd", RECIPE) | {"dkd_T": 2.0}  # it has no hint_layer
    assert (plan.trial, plan.seed, plan.weights) == (3, 99, Weights(1, 2, 3))
    assert (plan.save_freq, plan.validation) == (7, 500)


def test_every_field_of_a_plan_is_filled():
    """All shared settings arrive in the plan."""
    own = {"options", "model", "method", "weights", "recipe", "trial", "seed"}
    shared = {field.name for field in fields(SharedSettings)} - {"given_options"}
    assert {field.name for field in fields(RunPlan)} == own | shared
    other = replace(SHARED, retrospection=RetrospectionPlan(3), logit_standardization=True, kd_T=2.0)
    plan = make_plan("kd", "resnet20", RECIPE, other)
    assert {name: getattr(plan, name) for name in shared} == {name: getattr(other, name) for name in shared}


def test_a_method_without_teachers_has_none():
    assert make_plan("none", "resnet20", RECIPE, SHARED).teachers == ()


@pytest.mark.parametrize(
    ("setting", "method", "teachers"),
    [
        ({"kd_T": 2.0}, "hint", (TEACHER,)),
        ({"logit_standardization": True}, "none", (TEACHER,)),
        ({"teacher_weighting": "confidence"}, "kd", (TEACHER,)),
        ({"teacher_weighting": "confidence"}, "none", (TEACHER, TEACHER)),
    ],
)
def test_what_cannot_affect_a_run_is_no_part_of_it(setting, method, teachers):
    shared = replace(SHARED, teachers=teachers)
    plain, modified = (make_plan(method, "resnet20", RECIPE, s) for s in (shared, replace(shared, **setting)))
    assert (modified, modified.run_id, modified.label) == (plain, plain.run_id, plain.label)
    assert without_idle_settings(plain) == plain


@pytest.mark.parametrize(
    ("setting", "method", "teachers"),
    [
        ({"kd_T": 2.0}, "kd", (TEACHER,)),
        ({"logit_standardization": True}, "hint", (TEACHER,)),
        ({"teacher_weighting": "confidence"}, "kd", (TEACHER, TEACHER)),
    ],
)
def test_what_affects_a_run_makes_another(setting, method, teachers):
    shared = replace(SHARED, teachers=teachers)
    plain, modified = (make_plan(method, "resnet20", RECIPE, s) for s in (shared, replace(shared, **setting)))
    assert modified.run_id != plain.run_id
    assert modified.label != plain.label
