"""Names of folders are safe and distinct; labels and protocol lines say what differs from the defaults."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from engine.protocol.names import protocol_line, recipe_changes
from engine.protocol.plan import SharedSettings, TeacherFile, make_plan
from engine.protocol.recipes import RECIPES
from engine.protocol.retrospection_plan import RetrospectionPlan
from tests.engine.protocol.plans import plan_alone, plans

SHARED = SharedSettings("student", "cifar100", "fp32", teachers=(TeacherFile("resnet56", Path("t"), "ab" * 32),))


def plan_of(method="dkd", **changes):
    return replace(make_plan(method, "resnet20", RECIPES["repdistiller"], SHARED), **changes)


# --- folders ---------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(plan=plans())
def test_names_are_safe(plan):
    assert not re.search(r'[<>:"/\\|?*\s]|[^\x21-\x7e]', plan.name)
    assert len(plan.name) < 200
    assert not plan.name.endswith(".")
    assert plan.folder.parent.name in ("models", "student_model")
    assert plan.folder.name == plan.name


def test_names_hold_the_pair_the_weights_the_trial_and_the_id():
    plan = plan_of("kd", trial=3)
    assert plan.name == f"S_resnet20_T_resnet56_cifar100_kd_r_0.1_a_0.9_b_0_trial_3_{plan.run_id}"
    probe = replace(plan_alone("resnet8"), kind="probe")
    assert probe.folder == Path(f"transfer/resnet8_to_cifar100_lr_0.05_decay_0.0005_trial_1_{probe.run_id}")


def test_long_names_are_cut_and_stay_distinct():
    named = [replace(plan_alone("resnet20"), method="+".join(["crd*0.5"] * n)) for n in (1, 40, 41)]
    names = [plan.name for plan in named]
    assert "crd" in names[0]
    assert len(set(names)) == 3
    assert all(len(name) < 220 and name.endswith(f"_trial_1_{p.run_id}") for name, p in zip(names, named, strict=True))


# --- labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, set()),
        ({"kd_T": 2.0}, set()),  # dkd has no KL term
        ({"logit_standardization": True}, {"standardised"}),
        ({"teacher_weighting": "confidence"}, {"teachers", "by", "confidence"}),
        ({"retrospection": RetrospectionPlan()}, {"lwr=5"}),
        ({"retrospection": RetrospectionPlan(3, rate=0.5)}, {"lwr=3", "lwr_rate=0.5"}),
    ],
)
def test_labels_have_the_settings_that_differ(changes, words):
    assert set(plan_of(**changes).label.split()) == {"dkd"} | words


def test_labels_have_the_weights_temperature_and_options_that_differ():
    plan = plan_of("kd", kd_T=2.0)
    assert plan.label == "kd kd_T=2"
    assert replace(plan, weights=replace(plan.weights, gamma=0.5)).label == "kd gamma=0.5 kd_T=2"
    plan = plan_of("dkd")
    assert replace(plan, options=plan.options | {"dkd_T": 2.0}).label == "dkd dkd_T=2.0"


# --- protocols -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "kind", "given", "changes", "rest"),
    [
        ("resnet20", "student", {}, {}, "240 epochs, batch 64"),
        ("resnet20", "student", {"epochs": 1, "schedule": "cosine"}, {"schedule": "cosine"}, "1 epoch, batch 64"),
        ("resnet20", "teacher", {"epochs": 24, "batch_size": 8}, {}, "24 epochs, batch 8"),
        (
            "resnet20",
            "student",
            {"flip": False, "lr_decay_epochs": (9, 12), "weight_decay": 1e-4, "rand_augment": ""},
            {"weight_decay": "0.0001", "lr_decay_epochs": "9,12", "flip": "False"},
            "240 epochs, batch 64",
        ),
        ("MobileNetV2", "student", {}, {}, "240 epochs, batch 64"),
        ("MobileNetV2", "student", {"learning_rate": 0.05}, {"learning_rate": "0.05"}, "240 epochs, batch 64"),
        ("MobileNetV2", "probe", {"learning_rate": 0.05}, {}, "240 epochs, batch 64"),
    ],
)
def test_a_protocol_has_what_differs_from_its_recipe(model, kind, given, changes, rest):
    plan = plan_alone(model, kind, **given)
    words = [f"{key}={value}" for key, value in changes.items()]
    assert protocol_line(plan) == f"{' '.join(['repdistiller', *words])}, {rest}, fp32"
    assert recipe_changes(plan) == {key: given[key] for key in changes}


def test_a_protocol_has_the_images_that_are_held_out():
    assert "500 images held out" in protocol_line(replace(plan_alone("resnet20"), validation=500))
