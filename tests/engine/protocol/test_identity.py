"""Ids: every setting that counts makes another run, nothing else does, and comparable runs share a protocol."""

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distiller_zoo import METHODS
from engine.protocol.identity import protocol_id
from engine.protocol.plan import BackboneFile, InitialWeights, RunPlan, SharedSettings, TeacherFile, make_plan
from engine.protocol.recipes import RECIPES
from engine.protocol.retrospection_plan import RetrospectionPlan
from tests.engine.protocol.plans import BACKBONE, UNLABELLED, plan_alone, plans

TEACHER = TeacherFile("resnet56", Path("t.pt"), "ab" * 32)
INIT = InitialWeights("resnet8", Path("i.pt"), "cd" * 32, "i")
ALONE = SharedSettings("teacher", "cifar100", "fp32")
STUDENT = SharedSettings("student", "cifar100", "fp32", teachers=(TEACHER,))


@pytest.mark.parametrize(
    ("method", "shared", "run_id"), [("none", ALONE, "ea8a7599"), ("kd", STUDENT, "24fbef3b")], ids=["alone", "kd"]
)
def test_runs_of_earlier_versions_keep_their_ids(method, shared, run_id):
    """Unfinished and finished runs are found by them; tests/engine/test_run_ids.py has many more."""
    assert make_plan(method, "resnet8", RECIPES["repdistiller"], shared).run_id == run_id


CHANGES = {
    "kind": lambda plan: "student" if plan.kind == "teacher" else "teacher",
    "dataset": lambda plan: "cifar10",
    "model": lambda plan: "resnet8" if plan.model != "resnet8" else "resnet14",
    "method": lambda plan: "kd" if plan.method != "kd" else "none",
    "options": lambda plan: plan.options | {"another": 1},
    "weights": lambda plan: replace(plan.weights, beta=math.nextafter(plan.weights.beta, -1)),
    "kd_T": lambda plan: math.nextafter(plan.kd_T, -1),
    "teachers": lambda plan: (*plan.teachers, TeacherFile("resnet8", Path("t"), "0" * 64)),
    "recipe": lambda plan: replace(plan.recipe, weight_decay=plan.recipe.weight_decay + 1),
    "precision": lambda plan: "fp32" if plan.precision == "bf16" else "bf16",
    "trial": lambda plan: plan.trial + 1,
    "seed": lambda plan: plan.seed + 1,
    "backbone": lambda plan: BACKBONE,
    "init": lambda plan: INIT,
    "logit_standardization": lambda plan: True,
    "retrospection": lambda plan: replace(plan.retrospection or RetrospectionPlan(), rate=0.5),
    "teacher_weighting": lambda plan: "confidence",
    "validation": lambda plan: plan.validation + 1,
    "unlabelled": lambda plan: replace(plan.unlabelled or UNLABELLED, sha256="cd" * 32),
}


def test_every_field_is_changed():
    assert CHANGES.keys() == {field.name for field in fields(RunPlan) if field.compare}


@settings(max_examples=100)
@given(plan=plans(), field=st.sampled_from(sorted(CHANGES)))
def test_other_settings_make_another_run(plan, field):
    other = replace(plan, **{field: CHANGES[field](plan)})
    assert other.run_id != plan.run_id


@settings(max_examples=25)
@given(plan=plans())
def test_the_normalisation_that_a_teacher_expects_makes_another_run(plan):
    plain = TeacherFile("resnet8", Path("t"), "0" * 64)
    means = ((0.5,) * 3, (0.4, 0.5, 0.5))
    halves, other = (replace(plain, normalisation_override=(mean, (0.5,) * 3)) for mean in means)
    pairs = [(plain, plain), (halves, plain), (plain, halves), (halves, halves), (other, plain)]
    assert len({replace(plan, teachers=pair).run_id for pair in pairs}) == len(pairs)


@settings(max_examples=50)
@given(plan=plans())
def test_where_files_lie_and_how_often_it_is_saved_makes_no_other_run(plan):
    moved = tuple(replace(teacher, path=Path("elsewhere") / "file.pth") for teacher in plan.teachers)
    assert replace(plan, teachers=moved, save_freq=3).run_id == plan.run_id


@settings(max_examples=10)
@given(plan=plans())
def test_images_without_labels_count_by_what_they_are(plan):
    plan = replace(plan, unlabelled=UNLABELLED)
    others = [replace(UNLABELLED, path=Path("elsewhere")), replace(UNLABELLED, only=True)]
    moved, alone = (replace(plan, unlabelled=other) for other in others)
    assert moved.run_id == plan.run_id
    assert len({plan.run_id, alone.run_id, replace(plan, unlabelled=None).run_id}) == 3


def test_a_probe_is_made_of_the_weights_and_not_of_their_place_or_name():
    def probe_of(sha256, path="a.pth", trained_by="kd"):
        shared = replace(ALONE, kind="probe", backbone=BackboneFile("resnet8", Path(path), sha256, trained_by))
        return make_plan("none", "resnet8", RECIPES["probe"], shared)

    assert probe_of("ab").run_id == probe_of("ab", "elsewhere/b.pth", "none").run_id
    bare = make_plan("none", "resnet8", RECIPES["probe"], replace(ALONE, kind="probe"))
    assert len({probe_of("ab").run_id, probe_of("cd").run_id, bare.run_id}) == 3


def test_a_start_is_made_of_the_weights_and_not_of_their_place_or_name():
    def start_of(init):
        return make_plan("none", "resnet8", RECIPES["repdistiller"], replace(ALONE, init=init)).run_id

    assert start_of(INIT) == start_of(replace(INIT, path=Path("elsewhere"), name="another"))
    halves = ((0.5,) * 3, (0.5,) * 3)
    others = [None, INIT, replace(INIT, sha256="ef" * 32), replace(INIT, weights_key="student")]
    # The file says how images are normalised, or the name of the network does: timm:NAME.TAG.
    others.append(replace(INIT, normalisation=halves, named_normalisation=True))
    assert len(set(map(start_of, others))) == len(others)
    assert start_of(replace(INIT, normalisation=halves)) == start_of(INIT)


# --- protocols -------------------------------------------------------------------------------------


def protocol_of(model, kind="student", **given):
    return protocol_id(plan_alone(model, kind, **given))


def test_networks_of_one_published_table_share_a_protocol_at_their_usual_learning_rates():
    usual = {protocol_of(model) for model in ("resnet20", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2")}
    assert len(usual) == 1
    given = [protocol_of("resnet20", learning_rate=0.01), protocol_of("MobileNetV2", learning_rate=0.05)]
    given.append(protocol_of("MobileNetV2", learning_rate=0.02))
    assert len({*usual, *given}) == 4
    assert protocol_of("MobileNetV2", learning_rate=0.01) in usual
    assert protocol_of("MobileNetV2", weight_decay=1e-4) not in usual


def test_probes_of_all_networks_have_the_rate_of_their_recipe():
    usual = {protocol_of(model, "probe", learning_rate=0.05) for model in ("resnet20", "MobileNetV2", "ShuffleV1")}
    assert len(usual) == 1
    assert protocol_of("MobileNetV2", "probe", learning_rate=0.01) not in usual


def test_methods_and_trials_share_a_protocol():
    plans = [make_plan(method, "resnet20", RECIPES["repdistiller"], STUDENT) for method in METHODS]
    assert len({protocol_id(replace(plan, trial=i)) for i, plan in enumerate(plans)}) == 1
