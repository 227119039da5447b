"""What a run leaves behind: complete, true, readable by others, and never half written."""

import contextlib
import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.errors import RequestError
from dataset import load_arrays
from engine.checkpoints.weights import WeightsHeader
from engine.records.run_folder import RunFolder
from engine.training import student_run
from engine.training.epoch_end import finish_epoch
from models import create_model
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

pytestmark = pytest.mark.runs


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


def logits_of(network):
    """Logits of the test images by hand, without the suite's data code."""
    data = load_arrays("digits", "data")
    images = np.float64(data.test_images) / 255
    images = (images - np.array(DIGITS.mean)) / np.array(DIGITS.std)
    images = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        return network.eval()(images), torch.from_numpy(np.array(data.test_labels))


FIGURES = ("top1", "top5", "loss", "balanced")


def measured_by_hand(network):
    logits, labels = logits_of(network)
    order = logits.argsort(dim=1, descending=True)
    top1 = (order[:, 0] == labels).double().mean().item()
    top5 = (order[:, :5] == labels[:, None]).any(1).double().mean().item()
    recalls = [(order[labels == label, 0] == label).double().mean().item() for label in labels.unique()]
    measured = {"top1": 100 * top1, "top5": 100 * top5, "loss": F.cross_entropy(logits, labels).item()}
    return measured | {"balanced": 100 * sum(recalls) / len(recalls)}


def test_test_figures_are_those_of_the_saved_weights(run):
    result = read_json(run / "result.json")
    for which in ("last", "best"):
        saved = load(run / f"resnet8_{which}.pth")
        network = create_model("resnet8", 10, 8)
        network.load_state_dict(saved["model"])
        found = {key: result[which][key] for key in FIGURES}
        assert found == pytest.approx(measured_by_hand(network), rel=1e-5)
        assert found == {key: saved[key] for key in found}
        assert saved["epoch"] == result[which]["epoch"]


def test_teacher_figures_are_measured(run, teacher):
    network = create_model("resnet8", 10, 8)
    network.load_state_dict(load(teacher)["model"])
    (taught,) = read_json(run / "config.json")["teachers"]
    assert {key: taught[key] for key in FIGURES} == pytest.approx(measured_by_hand(network), rel=1e-5)


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


def test_finished_run_is_left_alone(tmp_path, capsys):
    assert train_alone(tmp_path) == 0
    folder = folder_of(tmp_path)
    assert read_json(folder / "config.json")["kind"] == "teacher"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    capsys.readouterr()
    assert train_alone(tmp_path) == 0
    assert str(folder) in capsys.readouterr().out
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


def test_the_same_settings_in_other_words_are_the_same_run(tmp_path):
    assert train("none", output=tmp_path) == 0
    result = (folder_of(tmp_path) / "result.json").stat().st_mtime_ns
    words = ["-r", "1.0", "--warmup_epochs", "0", "--mixup", "0", "--lr_decay_epochs", "1,2,2", "--seed", "1"]
    assert train("vanilla", output=tmp_path, extra=words) == 0
    assert (folder_of(tmp_path) / "result.json").stat().st_mtime_ns == result


# --- the folder alone --------------------------------------------------------------------------------


def contents(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else None


def write_everything(run):
    run.write_config({"code": {"a.py": "1"}})
    run.write_metrics([{"epoch": 1}, {"epoch": 2}])
    run.write_initial_metrics([{"epoch": 1}])
    run.write_failure("it failed")
    run.save_checkpoint({"run_id": "a", "step": 1})
    run.save_checkpoint({"run_id": "a", "step": 2})
    run.write_weights(run.last, create_model("resnet8", 10, 8), WeightsHeader("resnet8", DIGITS, 1, {}))
    run.write_result({"epochs": 2})


def test_a_process_that_trains_along_changes_nothing(tmp_path):
    run = RunFolder(tmp_path / "run", "resnet8", writes=False)
    with run.opened():
        write_everything(run)
        run.begin_anew()
        run.remove_checkpoints()
    assert contents(run.path) is None
    writer = RunFolder(run.path, "resnet8")
    with writer.opened():
        write_everything(writer)
    before = contents(run.path)
    run.discard(run.result)
    run.discard_leftovers()
    assert contents(run.path) == before
    assert (run.is_finished(), run.code(), run.data_digest()) == (True, {"a.py": "1"}, None)
    assert run.read_saved_state("a").content["step"] == 2
    run.begin_anew()
    assert contents(run.path) == before


def test_it_is_opened_by_one_process_and_leaves_nothing_if_nothing_is_written(tmp_path):
    run = RunFolder(tmp_path / "run", "resnet8")
    with run.opened(), pytest.raises(RequestError), run.opened():
        pass
    assert contents(run.path) is None


def test_leftovers_of_a_run_that_was_killed(tmp_path):
    run = RunFolder(tmp_path / "run", "resnet8")
    with run.opened():
        write_everything(run)
        (run.path / ".config.json.x.tmp").touch()
    run.discard_leftovers()  # it is finished
    assert not {path.name for path in run.checkpoints()} & set(contents(run.path))
    assert not list(run.path.glob(".*"))
    assert read_json(run.failure) == {"reason": "it failed"}
    run.result.unlink()
    with run.opened():
        run.begin_anew()
        run.write_failure("not begun")
    assert contents(run.path) is None


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path):
    run = RunFolder(tmp_path, "resnet8")
    assert run.read_saved_state("a").content is None
    write_everything(run)
    assert run.read_saved_state("a").content["step"] == 2
    run.checkpoint.write_bytes(b"damaged")
    saved = run.read_saved_state("a")
    assert (saved.content["step"], saved.damaged, len(saved.problems)) == (1, (run.checkpoint,), 1)
    with pytest.raises(RequestError) as refusal:
        run.read_saved_state("b")
    assert "--overwrite" in str(refusal.value)
    run.former_checkpoint.write_bytes(b"damaged too")
    with pytest.raises(RequestError) as refusal:
        run.read_saved_state("a")
    assert "--overwrite" in str(refusal.value)
    assert str(run.checkpoint) in str(refusal.value)


# --- failing disks ---------------------------------------------------------------------------------

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import train_student
from engine.training import loop
original = loop.finish_epoch
def finish_epoch(run, session):
    if run.position[0] > 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    original(run, session)
loop.finish_epoch = finish_epoch
sys.exit(train_student.main(sys.argv[1:]))
"""


def assert_it_goes_on(output):
    """A run that failed in its second epoch has its first, and finishes once there is space."""
    folder = folder_of(output)
    assert load(folder / "checkpoint.pth")["position"] == [2, 0]
    assert len(read_metrics(folder)) == 1
    assert not list(folder.glob(".*"))
    assert train("none", output=output) == 0
    assert len(read_metrics(folder)) == 2


def test_no_file_can_be_written_any_more(tmp_path):
    """No file may grow beyond 100 bytes from the second epoch on."""
    command = [sys.executable, "-c", LIMITED, *arguments("none", output=tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment(), cwd=ROOT)
    assert done.returncode == 1, done.stderr
    assert 1 <= len(done.stderr.splitlines()) <= 2
    assert done.stderr.startswith("error: ")
    assert str(folder_of(tmp_path)) in done.stderr
    assert_it_goes_on(tmp_path)


def test_the_checkpoint_alone_cannot_be_written(tmp_path, monkeypatch, capsys):
    def limited(run, session):
        if run.position[0] == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        finish_epoch(run, session)

    with monkeypatch.context() as patch:
        patch.setattr("engine.training.loop.finish_epoch", limited)
        limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            assert train("none", output=tmp_path) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
    assert "checkpoint.pth" in capsys.readouterr().err
    assert_it_goes_on(tmp_path)


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
    assert os.strerror(errno.ENOSPC) in errors
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
    assert "tensorboard" in capsys.readouterr().err


def test_metrics_are_valid_json(run):
    for line in (run / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


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


def test_lines_of_metrics_are_valid_json(tmp_path):
    """A network may predict what is not finite while its training loss still is."""
    folder = RunFolder(tmp_path, "resnet8")
    folder.write_metrics([{"epoch": 1, "test_loss": float("nan")}, {"epoch": 2, "test_loss": float("inf")}])
    lines = [json.loads(line, parse_constant=pytest.fail) for line in folder.metrics.read_text().splitlines()]
    assert [line["test_loss"] for line in lines] == [None, None]
