"""Two runs that differ in any field of a plan, however little, share no row of a table, and none is dropped."""

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest

from engine.protocol.plan import BackboneFile, InitialWeights, RunPlan, SharedSettings, TeacherFile, make_plan
from engine.protocol.recipes import resolve_recipe
from engine.protocol.retrospection_plan import RetrospectionPlan
from engine.protocol.run_config import run_config
from engine.protocol.unlabelled_plan import UnlabelledPlan
from models import MODELS
from tests.reporting.fake_runs import build, row_of, write_run

RECIPE = resolve_recipe("light", MODELS["mixer_pico"], {"epochs": 2})
TEACHERS = (TeacherFile("resnet8", Path("a"), "a" * 64), TeacherFile("resnet14", Path("b"), "b" * 64))
SHARED = SharedSettings("student", "digits", "fp32", TEACHERS, {"std_modules": "last+intermediate"})
PLAN = make_plan("std", "mixer_pico", RECIPE, SHARED)
BACKBONE = BackboneFile("mixer_pico", Path("c"), "c" * 64, "kd", {}, {"protocol_id": "1"})
PROBE = make_plan("none", "mixer_pico", RECIPE, SharedSettings("probe", "digits", "fp32", backbone=BACKBONE))
INIT = InitialWeights("mixer_pico", Path("i.pt"), "cd" * 32, "i")
UNLABELLED = UnlabelledPlan(Path("u"), 7, "e" * 64)
HALVES = ((0.5,) * 3, (0.5,) * 3)

# The changed plan by the field that is changed; small changes are not to be rounded away.
CHANGES = {
    "kind": replace(PLAN, kind="teacher"),
    "dataset": replace(PLAN, dataset="cifar100"),
    "model": replace(PLAN, model="mixer_nano"),
    "method": replace(PLAN, method="kd"),
    "options": replace(PLAN, options=PLAN.options | {"std_T": math.nextafter(1.0, 2)}),
    "an option of a later version": replace(PLAN, options=PLAN.options | {"std_T": 2.0, "another": 1}),
    "weights": replace(PLAN, weights=replace(PLAN.weights, beta=math.nextafter(0.5, 1))),
    "kd_T": replace(PLAN, kd_T=math.nextafter(4.0, 5)),
    "teachers": replace(PLAN, teachers=TEACHERS[:1]),
    "teachers in another order": replace(PLAN, teachers=TEACHERS[::-1]),
    "a teacher of another checkpoint": replace(PLAN, teachers=(replace(TEACHERS[0], sha256="d" * 64), TEACHERS[1])),
    "a teacher of another normalisation": replace(
        PLAN, teachers=(replace(TEACHERS[0], normalisation_override=HALVES), TEACHERS[1])
    ),
    "recipe": replace(PLAN, recipe=replace(RECIPE, weight_decay=math.nextafter(RECIPE.weight_decay, 1))),
    "precision": replace(PLAN, precision="bf16"),
    "backbone": replace(PROBE, backbone=replace(BACKBONE, training={"protocol_id": "2"})),
    "init": replace(PLAN, init=INIT),
    "logit_standardization": replace(PLAN, logit_standardization=True),
    "retrospection": replace(PLAN, retrospection=RetrospectionPlan()),
    "retrospection, a rate": replace(PLAN, retrospection=RetrospectionPlan(rate=math.nextafter(0.9, 1))),
    "teacher_weighting": replace(PLAN, teacher_weighting="confidence"),
    "validation": replace(PLAN, validation=10),
    "unlabelled": replace(PLAN, unlabelled=UNLABELLED),
}
REPETITIONS = {"trial": 2, "seed": 2}


def write(root, name, plan, **fields_of_config):
    measured = [{"top1": 90.0, "top5": 99.0, "loss": 0.3}] * len(plan.teachers)
    config = run_config(plan, measured, {"device": "cpu"}) | {"teacher_order_matters": True} | fields_of_config
    return write_run(root, name, **config)


def rows_of(root):
    report = build(root)
    rows = report.table[report.table.role != "teacher"]
    return rows, report.notes


def test_every_field_of_a_plan_is_in_the_tables_below():
    named = {field.name for field in fields(RunPlan) if field.compare}
    assert named <= {*CHANGES, *REPETITIONS}


@pytest.mark.parametrize("field", CHANGES)
def test_other_settings_stand_apart(tmp_path, field):
    """A setting that is written by one run in three, too: the run before was the same, the other trial as well."""
    plain = PROBE if CHANGES[field].kind == "probe" else PLAN
    write(tmp_path, "plain", plain)
    write(tmp_path, "trial", replace(plain, trial=2, seed=2))
    write(tmp_path, "changed", CHANGES[field])
    rows, notes = rows_of(tmp_path)
    of_changed = rows[[any(path.endswith("changed") for path in paths) for paths in rows.paths]]
    assert list(of_changed.n) == [1], field
    assert sorted(rows.n) == [1, 2], field
    assert not [note for note in notes if note.startswith(("duplicate", "copies"))]


@pytest.mark.parametrize(("changes", "rows"), [({"path": Path("v")}, [2]), ({"sha256": "f" * 64}, [1, 1])], ids=str)
def test_images_without_labels_are_the_same_in_another_place(tmp_path, changes, rows):
    write(tmp_path, "plain", replace(PLAN, unlabelled=UNLABELLED))
    write(tmp_path, "other", replace(PLAN, trial=2, seed=2, unlabelled=replace(UNLABELLED, **changes)))
    assert list(rows_of(tmp_path)[0].n) == rows


@pytest.mark.parametrize("field", REPETITIONS)
def test_trials_and_seeds_are_repetitions(tmp_path, field):
    write(tmp_path, "plain", PLAN)
    write(tmp_path, "again", replace(PLAN, **{field: 2}))
    assert list(rows_of(tmp_path)[0].n) == [2]


@pytest.mark.parametrize(
    "noise",
    [
        {"environment": {"device": "cpu", "torch": "9.9", "threads": 64, "processes": 2, "deterministic": True}},
        {"test_images": 7},
        {"classes": ["cat", "dog"], "test_class_images": [7, 90]},
        {"format": 1},
        {"recipe_changes": {"summary": "in other words"}},
    ],
)
def test_what_changes_no_setting_changes_no_row(tmp_path, noise):
    write(tmp_path, "plain", PLAN)
    write(tmp_path, "other", replace(PLAN, trial=2, seed=2), **noise)
    assert list(rows_of(tmp_path)[0].n) == [2]


@pytest.mark.parametrize("later", [{"start": {"path": "w.pth"}}, {"start": 1}, {"start": [1, [2]]}])
def test_fields_of_later_versions_count_too(tmp_path, later):
    """Unless they are missing: a record that does not say is as most are."""
    write(tmp_path, "old", replace(PLAN, trial=3, seed=3))
    for trial in (1, 2):
        write(tmp_path, f"none{trial}", replace(PLAN, trial=trial, seed=trial), start=None)
    write(tmp_path, "later", PLAN, **later)
    rows, _ = rows_of(tmp_path)
    assert sorted(rows.n) == [1, 3]
    assert [("start" in label) for label in rows.sort_values("n").method] == [True, False]


def test_a_reference_keeps_its_name_beside_a_changed_one(tmp_path):
    write_run(tmp_path, "none", 50.0, method="none")
    for trial in (1, 2):
        write_run(tmp_path, f"kd{trial}", 60.0, trial=trial, weights={"gamma": 0.1, "alpha": 0.9, "beta": 0.0})
    write_run(tmp_path, "other", 70.0, weights={"gamma": 0.1, "alpha": 0.9000000001, "beta": 0.0})
    table = build(tmp_path).table
    assert row_of(table, "kd").last_mean == 60.0
    assert row_of(table, "kd alpha=0.9000000001").gain_over_kd == 10.0
