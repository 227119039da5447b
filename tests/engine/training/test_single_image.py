"""A last batch of one image: refused where a run cannot train on it, and only there."""

from dataclasses import replace

import pytest

import train_student
from engine.protocol.plan import SharedSettings, TeacherFile, make_plan
from engine.protocol.recipes import RECIPES, resolve_recipe
from engine.training.preparation import last_batch, other_batches
from engine.training.single_image import why_not_on_one_image
from engine.training.student_run import StudentRun
from models import MODELS, create_model
from tests.helpers import DIGITS, save_network

TEACHER = create_model("resnet8", DIGITS.num_classes, DIGITS.image_size).eval()


def reason(method, model, tmp_path):
    shared = SharedSettings("student", "digits", "fp32", teachers=(TeacherFile("resnet8", tmp_path, "ab" * 32),))
    recipe = resolve_recipe("repdistiller", MODELS[model], {"epochs": 2})
    plan = make_plan(method, model, recipe, shared)
    run = StudentRun(plan, DIGITS, (TEACHER,) if plan.teachers else (), tmp_path, writes=False)
    before = [tensor.clone() for tensor in run.student.state_dict().values()]
    found = why_not_on_one_image(run, (TEACHER,) if plan.teachers else (), DIGITS)
    assert all((a == b).all() for a, b in zip(before, run.student.state_dict().values(), strict=True))
    return found


@pytest.mark.parametrize(
    ("method", "model", "word"),
    [
        ("none", "mixer_pico", ""),  # no batch norm
        ("kd", "mixer_pico", ""),
        ("kd", "resnet8", ""),  # its last maps are 2×2
        ("std", "mixer_pico", ""),
        ("mlkd", "mixer_pico", ""),
        ("kd", "MobileNetV2", "MobileNetV2"),  # 1×1 at 8 px
        ("srrl", "mixer_pico", "srrl"),  # its connector is a batch norm of embeddings
        ("rkd", "mixer_pico", ""),
        ("crd", "mixer_pico", ""),
    ],
)
def test_which_runs_cannot(method, model, word, tmp_path):
    found = reason(method, model, tmp_path)
    assert (word in found and bool(found)) if word else found == ""


@pytest.mark.parametrize(("batch", "dropped"), [(1, False), (1, True), (648, False), (1296, False)])
def test_advice_that_works(batch, dropped):
    recipe = replace(RECIPES["repdistiller"], batch_size=batch, drop_last=dropped)
    entry = replace(DIGITS, train_size=1297)
    assert last_batch(recipe, entry) == 1
    advice = other_batches(recipe, entry)
    size = int(advice.split("--batch_size ")[1].split()[0])
    assert last_batch(replace(recipe, batch_size=size), entry) > 1
    assert ("--drop_last" in advice) == (batch > 1)


def test_the_command_is_refused_with_the_flag(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_network(tmp_path / "t.pth")
    words = "--dataset digits --model_s mixer_pico --device cpu --epochs 1 --batch_size 1 --path_t t.pth --distill"
    assert train_student.main([*words.split(), "srrl"]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in ("--batch_size 1 ", "srrl", "--batch_size 5"))
