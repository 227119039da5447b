"""config.json: it can be written as JSON, has every setting, and holds what differs from the recipe."""

import json
from dataclasses import fields, replace
from pathlib import Path

from hypothesis import given, settings

from engine.protocol.plan import RunPlan, TeacherFile
from engine.protocol.run_config import run_config
from tests.engine.protocol.plans import plan_alone, plans


@settings(max_examples=25)
@given(plan=plans())
def test_it_has_every_setting_and_is_json(plan):
    plan = replace(plan, recipe=plan_alone(plan.model, epochs=3).recipe)
    config = run_config(plan, [{"top1": 50.0}] * len(plan.teachers), {"torch": "2"})
    assert {field.name for field in fields(RunPlan)} - {"save_freq"} <= config.keys()
    found = json.loads(json.dumps(config))
    assert (found["run_id"], found["label"], found["environment"]) == (plan.run_id, plan.label, {"torch": "2"})
    assert [teacher["sha256"] for teacher in found["teachers"]] == [teacher.sha256 for teacher in plan.teachers]


def test_changes_of_the_recipe_are_in_it():
    assert run_config(plan_alone("resnet20"), [], {})["recipe_changes"] == {}
    changed = run_config(plan_alone("resnet20", epochs=10, lr_decay_epochs=(2, 3), flip=False), [], {})
    assert json.loads(json.dumps(changed["recipe_changes"])) == {"lr_decay_epochs": [2, 3], "flip": False}


def test_the_names_of_the_classes_are_in_it():
    assert run_config(plan_alone("resnet20"), [], {})["classes"][:2] == ["apple", "aquarium_fish"]


def test_the_keys_of_a_teacher_stay():
    halves = ((0.5,) * 3, (0.5,) * 3)
    file = TeacherFile("resnet56", Path("t.pth"), "ab", normalisation_override=halves)
    plan = replace(plan_alone("resnet20"), teachers=(file,))
    (teacher,) = run_config(plan, [{"top1": 50.0}], {})["teachers"]
    expected = {"model": "resnet56", "path": "t.pth", "sha256": "ab", "normalisation": halves, "top1": 50.0}
    assert teacher == expected
