"""What a run leaves behind: complete, true, readable by others, and never half written."""

import contextlib
import itertools
import json
import math
import re
import resource
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dataset import load_arrays
from distiller_zoo import METHODS, Weights, options_of
from engine.protocol.plan import BackboneFile, RunPlan, TeacherFile
from engine.protocol.recipes import RECIPES, resolve_recipe
from engine.training import student_run
from engine.training.epoch_end import finish_epoch
from engine.training.retrospection import RetrospectionPlan
from models import MODELS, create_model
from tests.helpers import (
    DIGITS,
    ROOT,
    SMALL,
    arguments,
    environment,
    folder_of,
    load,
    outcome_of,
    read_json,
    read_metrics,
    stop_at_step,
    train,
    train_alone,
)


@pytest.fixture(scope="module")
def run(teacher, tmp_path_factory):
    """The folder of a finished run: three losses, two epochs."""
    output = tmp_path_factory.mktemp("records")
    extra = ["--alpha", "0.5", "--save_freq", "2"]
    assert train("hint", output=output, teacher=teacher, extra=extra) == 0
    return folder_of(output)


def test_files(run):
    found = {path.name for path in run.iterdir()}
    assert found == {
        "config.json", "metrics.jsonl", "result.json", "tensorboard",
        "resnet8_best.pth", "resnet8_last.pth", "ckpt_epoch_2.pth",
    }  # fmt: skip


def test_config(run, teacher):
    config = read_json(run / "config.json")
    expected = {"kind": "student", "dataset": "digits", "model": "resnet8", "method": "hint", "kd_T": 4.0}
    expected |= {"weights": {"gamma": 1, "alpha": 0.5, "beta": 100}, "options": {"hint_layer": 2, "hint_epochs": 0}}
    expected |= {"trial": 1, "seed": 1, "precision": "fp32", "num_classes": 10, "image_size": 8}
    assert {key: config[key] for key in expected} == expected
    (taught,) = config["teachers"]
    digest = subprocess.run(["sha256sum", str(teacher)], capture_output=True, text=True, check=True).stdout.split()[0]
    assert (taught["model"], taught["path"], taught["sha256"]) == ("resnet8", str(teacher), digest)
    recipe = config["recipe"]
    assert (recipe["epochs"], recipe["batch_size"], recipe["learning_rate"]) == (2, 130, 0.05)
    assert recipe["lr_decay_epochs"] == [1, 2, 2]
    assert run.name.endswith(config["run_id"])
    environment = config["environment"]
    assert environment["torch"] == torch.__version__
    assert environment["git_commit"] is None or re.fullmatch("[0-9a-f]{40}", environment["git_commit"])


def answers(network):
    """Logits of the test images by hand, without the suite's data code."""
    data = load_arrays("digits", "data")
    images = np.float64(data.test_images) / 255
    images = (images - np.array(DIGITS.mean)) / np.array(DIGITS.std)
    images = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        return network.eval()(images), torch.from_numpy(np.array(data.test_labels))


def measured_by_hand(network):
    logits, labels = answers(network)
    order = logits.argsort(dim=1, descending=True)
    top1 = (order[:, 0] == labels).double().mean().item()
    top5 = (order[:, :5] == labels[:, None]).any(1).double().mean().item()
    return {"top1": 100 * top1, "top5": 100 * top5, "loss": F.cross_entropy(logits, labels).item()}


def test_test_figures_are_those_of_the_saved_weights(run):
    result = read_json(run / "result.json")
    for which in ("last", "best"):
        saved = load(run / f"resnet8_{which}.pth")
        network = create_model("resnet8", 10, 8)
        network.load_state_dict(saved["model"])
        found = {key: result[which][key] for key in ("top1", "top5", "loss")}
        assert found == pytest.approx(measured_by_hand(network), rel=1e-5)
        assert found == {key: saved[key] for key in found}
        assert saved["epoch"] == result[which]["epoch"]


def test_teacher_figures_are_measured(run, teacher):
    network = create_model("resnet8", 10, 8)
    network.load_state_dict(load(teacher)["model"])
    (taught,) = read_json(run / "config.json")["teachers"]
    assert {key: taught[key] for key in ("top1", "top5", "loss")} == pytest.approx(measured_by_hand(network), rel=1e-5)


def test_metrics(run):
    metrics, result = read_metrics(run), read_json(run / "result.json")
    assert [record["epoch"] for record in metrics] == [1, 2]
    assert [record["learning_rate"] for record in metrics] == pytest.approx([0.05, 0.005])
    for record in metrics:
        parts = record["train"]
        assert parts.keys() == {"loss", "ce", "kl", "hint", "top1"}
        assert parts["loss"] == pytest.approx(parts["ce"] + 0.5 * parts["kl"] + 100 * parts["hint"], rel=1e-5)
        assert 0 <= parts["top1"] <= 100
        assert record["images_per_second"] == pytest.approx(1297 / record["seconds"], rel=0.05)
    assert result["last"] == {"epoch": 2, **metrics[-1]["test"]}
    best = max(metrics, key=lambda record: record["test"]["top1"])
    assert result["best"] == {"epoch": best["epoch"], **best["test"]}


def test_result(run):
    result = read_json(run / "result.json")
    assert (result["status"], result["epochs"]) == ("finished", 2)
    assert result["parameters"] == sum(p.numel() for p in create_model("resnet8", 10, 8).parameters())
    assert result["method_parameters"] > 0
    assert result["wall_seconds"] == pytest.approx(sum(r["seconds"] for r in read_metrics(run)), abs=0.01)
    assert result["peak_memory_mib"] > 10


def test_weights_file_is_plain(run):
    saved = load(run / "resnet8_last.pth")
    assert (saved["arch"], saved["num_classes"], saved["image_size"], saved["dataset"]) == ("resnet8", 10, 8, "digits")
    assert tuple(saved["mean"]) == DIGITS.mean
    assert saved["method"] is None  # the hint's regressor is no part of the network


def events_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    import engine  # noqa: F401  chooses the protobuf that tensorboard_logger can work with

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def expected_events(folder):
    found = {}
    for record in read_metrics(folder):
        train, test = record["train"], record["test"]
        values = {"train_loss": train["loss"], "train_acc": train["top1"], "learning_rate": record["learning_rate"]}
        values |= {"test_loss": test["loss"], "test_acc": test["top1"], "test_acc_top5": test["top5"]}
        values |= {f"loss/{name}": train[name] for name in train.keys() - {"loss", "top1"}}
        for tag, value in values.items():
            found.setdefault(tag, []).append((record["epoch"], pytest.approx(value, rel=1e-6)))
    return found


def test_tensorboard(run):
    events = events_of(run)
    assert events == expected_events(run)
    assert {"loss/ce", "loss/kl", "loss/hint"} < events.keys()


@pytest.mark.parametrize("pause", [0, 5])
def test_tensorboard_is_whole_after_a_cut(tmp_path, monkeypatch, pause):
    """Cut twice, also within a second: the name of an event file tells seconds only."""
    clock = itertools.count(1e9, pause)
    monkeypatch.setattr("tensorboard_logger.Logger._time", lambda self: next(clock))
    for step in (1, 3):
        with monkeypatch.context() as patch:
            stop_at_step(patch, 2, step)
            assert train("none", output=tmp_path) == 130
    assert train("none", output=tmp_path) == 0
    folder = folder_of(tmp_path)
    assert events_of(folder) == expected_events(folder)
    assert len(events_of(folder)["test_acc"]) == 2
    assert len(list((folder / "tensorboard").iterdir())) == 1


def test_finished_run_is_left_alone(tmp_path, capsys):
    assert train_alone(tmp_path) == 0
    folder = folder_of(tmp_path)
    assert read_json(folder / "config.json")["kind"] == "teacher"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    capsys.readouterr()
    assert train_alone(tmp_path) == 0
    assert capsys.readouterr().out.startswith("already finished: none in ")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_overwrite_starts_anew(tmp_path, capsys):
    assert train_alone(tmp_path) == 0
    folder = folder_of(tmp_path)
    expected = outcome_of(folder)
    (folder / "leftover").touch()
    (folder / "resnet8_last.pth").write_bytes(b"spoilt")
    assert train_alone(tmp_path, "--overwrite") == 0
    assert not (folder / "leftover").exists()
    assert outcome_of(folder)["metrics"] == expected["metrics"]
    assert load(folder / "resnet8_last.pth")["epoch"] == 2


def test_overwrite_of_an_interrupted_run_does_not_continue(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at_step(patch, 2, 1)
        assert train_alone(tmp_path) == 130
    capsys.readouterr()
    assert train_alone(tmp_path, "--overwrite") == 0
    assert "continues" not in capsys.readouterr().out


def test_the_same_settings_in_other_words_are_the_same_run(tmp_path, capsys):
    assert train("none", output=tmp_path) == 0
    capsys.readouterr()
    words = ["-r", "1.0", "--warmup_epochs", "0", "--mixup", "0", "--lr_decay_epochs", "1,2,2", "--seed", "1"]
    assert train("vanilla", output=tmp_path, extra=words) == 0
    assert "already finished" in capsys.readouterr().out


# --- identity ------------------------------------------------------------------------------------

BACKBONE = BackboneFile("resnet8", Path("b"), "another", "kd")
HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)
NUMBERS = st.one_of(st.floats(0, allow_infinity=False, allow_nan=False), st.sampled_from([0.1, 0.5, 0.9, 1.0, 1e-7]))


@st.composite
def plans(draw):
    method = draw(st.sampled_from(list(METHODS)))
    options = {name: parameter.default for name, parameter in options_of(method).items()}
    for name, value in options.items():
        if type(value) in (int, float):
            options[name] = draw(st.one_of(st.just(value), st.integers(1, 99), NUMBERS))
    teachers = st.builds(TeacherFile, model=st.sampled_from(list(MODELS)), path=st.just(Path("t")), sha256=HASHES)
    backbones = st.builds(replace, st.just(BACKBONE), sha256=HASHES)
    recipe = RECIPES[draw(st.sampled_from(list(RECIPES)))]
    return RunPlan(
        kind=draw(st.sampled_from(["teacher", "student"])),
        dataset=draw(st.sampled_from(["cifar100", "digits"])),
        model=draw(st.sampled_from(list(MODELS))),
        method=method,
        options=options,
        weights=Weights(draw(NUMBERS), draw(NUMBERS), draw(NUMBERS)),
        kd_T=draw(NUMBERS),
        teachers=tuple(draw(st.lists(teachers, max_size=8))),
        recipe=replace(recipe, epochs=draw(st.integers(1, 999)), learning_rate=draw(NUMBERS)),
        precision=draw(st.sampled_from(["fp32", "bf16"])),
        trial=draw(st.integers(0, 10**6)),
        seed=draw(st.integers(0, 2**63)),
        backbone=draw(st.none() | backbones),
        retrospection=draw(st.none() | st.builds(RetrospectionPlan, k=st.integers(1, 99))),
        validation=draw(st.integers(0, 999)),
    )


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
    "logit_standardization": lambda plan: True,
    "retrospection": lambda plan: replace(plan.retrospection or RetrospectionPlan(), rate=0.5),
    "teacher_weighting": lambda plan: "confidence",
    "validation": lambda plan: plan.validation + 1,
}


def test_every_field_is_changed():
    assert CHANGES.keys() == {field.name for field in fields(RunPlan) if field.compare}


@settings(max_examples=100, deadline=None)
@given(plan=plans(), field=st.sampled_from(sorted(CHANGES)))
def test_other_settings_have_another_folder(plan, field):
    assume(field != "kd_T" or plan.weights.alpha)  # without a KL term it is no setting of the run
    assume(len(plan.teachers) >= {"logit_standardization": 1, "teacher_weighting": 2}.get(field, 0))  # nor are these
    other = replace(plan, **{field: CHANGES[field](plan)})
    assert other.run_id != plan.run_id
    assert other.folder != plan.folder


@settings(max_examples=50, deadline=None)
@given(plan=plans())
def test_what_a_teacher_expects_of_images_is_a_setting_of_the_run(plan):
    plain = TeacherFile("resnet8", Path("t"), "0" * 64)
    halves, other = (replace(plain, normalisation=(mean, (0.5,) * 3)) for mean in ((0.5,) * 3, (0.4, 0.5, 0.5)))
    pairs = [(plain, plain), (halves, plain), (plain, halves), (halves, halves), (other, plain)]
    assert len({replace(plan, teachers=pair).run_id for pair in pairs}) == len(pairs)


@settings(max_examples=100, deadline=None)
@given(plan=plans())
def test_where_and_how_often_it_is_saved_makes_no_other_run(plan):
    moved = tuple(replace(teacher, path=Path("elsewhere") / "file.pth") for teacher in plan.teachers)
    assert replace(plan, teachers=moved, save_freq=3).folder == plan.folder


@settings(max_examples=50, deadline=None)
@given(plan=plans())
def test_what_cannot_touch_a_run_makes_no_other_run(plan):
    alone = replace(plan, teachers=(), weights=replace(plan.weights, alpha=0.0))
    modified = replace(alone, kd_T=2.0, logit_standardization=True, teacher_weighting="confidence")
    assert (modified.run_id, modified.label) == (alone.run_id, alone.label)
    teacher = TeacherFile("resnet20", Path("t"), "0" * 64)
    taught = replace(plan, teachers=(teacher,), weights=replace(plan.weights, alpha=0.5), kd_T=4.0)
    assert replace(taught, teacher_weighting="confidence").run_id == taught.run_id
    assert replace(taught, logit_standardization=True).run_id != taught.run_id
    assert replace(taught, kd_T=2.0).run_id != taught.run_id


def plan_under(model, kind="student", **given):
    recipe = resolve_recipe("repdistiller", MODELS[model], given)
    return RunPlan(kind, "cifar100", model, "none", {}, Weights(1, 0, 0), 4.0, (), recipe, "fp32", 1, 1)


def protocol_of(model, kind="student", **given):
    return plan_under(model, kind, **given).protocol_id


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


@pytest.mark.parametrize(
    ("model", "kind", "given", "line"),
    [
        ("resnet20", "student", {}, "repdistiller, 240 epochs, batch 64"),
        ("resnet20", "student", {"epochs": 1, "schedule": "cosine"}, "repdistiller schedule=cosine, 1 epoch, batch 64"),
        ("resnet20", "teacher", {"epochs": 24, "batch_size": 8}, "repdistiller, 24 epochs, batch 8"),
        ("resnet20", "student", {"flip": False, "lr_decay_epochs": (9, 12), "weight_decay": 1e-4, "rand_augment": ""},
         "repdistiller weight_decay=0.0001 lr_decay_epochs=9,12 flip=False, 240 epochs, batch 64"),
        ("MobileNetV2", "student", {}, "repdistiller, 240 epochs, batch 64"),
        ("MobileNetV2", "student", {"learning_rate": 0.05}, "repdistiller learning_rate=0.05, 240 epochs, batch 64"),
        ("MobileNetV2", "probe", {"learning_rate": 0.05}, "repdistiller, 240 epochs, batch 64"),
    ],
)  # fmt: skip
def test_protocol_in_words_names_what_its_recipe_has_otherwise(model, kind, given, line):
    assert plan_under(model, kind, **given).protocol == f"{line}, fp32"


def test_long_names_are_cut_and_stay_distinct():
    recipe = RECIPES["repdistiller"]
    plans = [
        RunPlan("student", "cifar100", "resnet20", "+".join(["crd*0.5"] * n), {}, Weights(1, 0, 1), 4.0, (), recipe,
                "fp32", 1, 1) for n in (1, 40, 41)
    ]  # fmt: skip
    names = [plan.name for plan in plans]
    assert "crd" in names[0]
    assert len(set(names)) == 3
    assert all(len(name) < 220 and name.endswith(f"_trial_1_{p.run_id}") for name, p in zip(names, plans, strict=True))


@settings(max_examples=200, deadline=None)
@given(plan=plans())
def test_names_are_safe(plan):
    assert not re.search(r'[<>:"/\\|?*\s]|[^\x21-\x7e]', plan.name)
    assert len(plan.name) < 200
    assert not plan.name.endswith(".")
    assert plan.folder.parent.name in ("models", "student_model")


# --- failing disks ---------------------------------------------------------------------------------

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import train_student
from engine.training import loop
limit, after = int(sys.argv[1]), int(sys.argv[2])
original = loop.finish_epoch
def finish_epoch(run, session):
    if run.position[0] > after:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    original(run, session)
loop.finish_epoch = finish_epoch
sys.exit(train_student.main(sys.argv[3:]))
"""


@pytest.mark.parametrize("limit", [100, 400_000])
def test_disk_full_while_saving(tmp_path, limit):
    """No file may grow beyond the limit from the second epoch on: not the metrics; or the checkpoint alone."""
    command = [sys.executable, "-c", LIMITED, str(limit), "1", *arguments("none", output=tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment(), cwd=ROOT)
    assert done.returncode == 1, done.stderr
    assert 1 <= len(done.stderr.splitlines()) <= 2
    assert done.stderr.startswith("error: cannot write ")
    folder = folder_of(tmp_path)
    assert load(folder / "checkpoint.pth")["position"] == [2, 0]
    assert len(read_metrics(folder)) == 1
    assert not list(folder.glob(".*"))
    assert train("none", output=tmp_path) == 0  # with space again it goes on
    assert len(read_metrics(folder)) == 2


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 4 MiB; skipped where mounting is not permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(path):
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_disk_that_is_really_full(tiny_disk, monkeypatch, capsys):
    def filled(run, session):
        if run.position[0] == 2:
            fill(tiny_disk / "filler")
        finish_epoch(run, session)

    with monkeypatch.context() as patch:
        patch.setattr("engine.training.loop.finish_epoch", filled)
        assert train("none", output=tiny_disk) == 1
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert "No space left on device; free some space" in errors
    folder = folder_of(tiny_disk)
    assert load(folder / "checkpoint.pth")["position"] == [2, 0]
    (tiny_disk / "filler").unlink()
    assert train("none", output=tiny_disk) == 0
    assert read_json(folder / "result.json")["epochs"] == 2


def test_events_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, 2)
        assert train("none", output=tmp_path) == 130
    (folder_of(tmp_path) / "tensorboard").write_text("a file where a folder should be")
    capsys.readouterr()
    assert train("none", output=tmp_path) == 1
    assert "cannot write" in capsys.readouterr().err


def test_metrics_are_valid_json(run):
    for line in (run / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY  # of this process, untouched


# --- precision -----------------------------------------------------------------------------------


def test_bf16_losses_are_float32(teacher, tmp_path, monkeypatch):
    seen = {}
    original = student_run.training_loss

    def objective(plan, method, retrospection, student, teachers, batch):
        losses, total = original(plan, method, retrospection, student, teachers, batch)
        seen.update({name: value.dtype for name, value in losses.items()}, total=total.dtype, at=student.logits.dtype)
        return losses, total

    monkeypatch.setattr(student_run, "training_loss", objective)
    small = tuple(part.replace("fp32", "bf16") for part in SMALL)
    stop_at_step(monkeypatch, 1, 0)  # one step is enough: many CPUs only emulate bf16
    methods = ("kd", "std", "crd")
    assert train(*methods, output=tmp_path, teacher=teacher, student="mixer_pico", small=small) == 130
    assert set(seen) == {"ce", "kl", "std", "crd", "total", "at"}
    assert set(seen.values()) == {torch.float32}
    for method in methods:
        folder = folder_of(tmp_path, method)
        assert read_json(folder / "config.json")["precision"] == "bf16"
        saved = load(folder / "checkpoint.pth")
        assert saved["position"] == [1, 1]
        assert {tensor.dtype for tensor in saved["student"].values()} == {torch.float32}
