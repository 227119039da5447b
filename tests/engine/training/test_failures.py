"""An exception of one run is a failure of that run alone, and one of what the group shares loses no step of it."""

import gc
import weakref
from copy import copy
from pathlib import Path

import pytest
import torch

import train_student
from distiller_zoo import METHODS, Method, Weights, register_method
from engine.device.world import World
from engine.records.run_folder import RunFolder
from engine.training.failures import reason_of
from engine.training.student_run import StudentRun
from reporting.records.runs import read_runs
from tests.engine.training.few import SMALL, train_few
from tests.helpers import arguments, assert_same, at_step, folder_of, folders_of, load, outcome_of, read_json

pytestmark = pytest.mark.runs


@pytest.fixture(scope="module")
def alone(teacher, tmp_path_factory):
    """kd's outcome in a run of its own."""
    output = tmp_path_factory.mktemp("alone")
    assert train_few("kd", output=output, teacher=teacher) == 0
    return outcome_of(folder_of(output))


@pytest.fixture
def breaking():
    """Register a method that raises `error` at the position `where`."""

    class Breaking(Method):
        weights = Weights(gamma=1, alpha=0, beta=1)
        where, error, seen = (2, 2), None, []

        def prepare(self, labels):
            if Breaking.where == "prepare":
                raise copy(Breaking.error)  # another object each time, that nobody keeps

        def loss(self, student, teacher, batch):
            if (batch.epoch, batch.step) == Breaking.where:
                held = student.logits * 2
                Breaking.seen = [weakref.ref(held), weakref.ref(student.logits)]
                raise copy(Breaking.error)
            return student.logits.square().mean()

    with METHODS.temporarily():
        register_method("breaking")(Breaking)
        yield Breaking


ERRORS = [
    (torch.OutOfMemoryError("CUDA out of memory. Tried."), "--group_size"),
    (KeyError("a name"), "KeyError: 'a name'"),
    (RuntimeError("first line\nsecond line"), "RuntimeError: first line"),
    (AssertionError(), "AssertionError"),
]


@pytest.mark.parametrize(("error", "words"), ERRORS, ids=lambda value: type(value).__name__)
def test_any_exception_of_one_leaves_the_others_alone(error, words, breaking, alone, teacher, tmp_path, capsys):
    breaking.error = error
    assert train_few("breaking", "kd", output=tmp_path, teacher=teacher) == 1
    (line,) = capsys.readouterr().err.splitlines()
    folder = folder_of(tmp_path, "breaking")
    for part in ("breaking", "epoch 2, step 2", words, str(folder / "error.txt")):
        assert part in line
    text = (folder / "error.txt").read_text()
    assert "raise copy(Breaking.error)" in text
    assert type(error).__name__ in text
    assert load(folder / "checkpoint.pth")["position"] == [2, 0]
    assert not (folder / "result.json").exists()
    assert_same(outcome_of(folder_of(tmp_path, "kd")), alone)


def test_a_field_that_was_not_declared_is_named(teacher, tmp_path, capsys):
    class Breaking(Method):
        weights, needs = Weights(gamma=1, alpha=0, beta=1), ("embedding",)

        def loss(self, student, teacher, batch):
            return (student.embedding - teacher.embedding).mean() + student.stages[-1].mean()

    with METHODS.temporarily():
        register_method("breaking")(Breaking)
        assert train_few("breaking", output=tmp_path, teacher=teacher) == 1
    (line,) = capsys.readouterr().err.splitlines()
    folder = folder_of(tmp_path)
    for part in ("breaking", "epoch 1, step 0", '"stages"', "needs", str(folder / "error.txt")):
        assert part in line
    assert "student.stages[-1]" in (folder / "error.txt").read_text()


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), TypeError("'NoneType' object is not callable")]
)
def test_the_tensors_of_a_failed_run_are_let_go(error, breaking, teacher, tmp_path, monkeypatch):
    """Before the next run acts: its memory may be what that one lacks."""
    breaking.error = error
    original, kept = StudentRun.step, {}

    def step(self, *arguments):
        if self.plan.method == "breaking":
            kept.setdefault("parameters", [weakref.ref(p) for p in self.student.parameters()])
        elif self.position == (2, 2):
            kept["alive"] = [ref for ref in [*kept["parameters"], *breaking.seen] if ref() is not None]
        original(self, *arguments)

    monkeypatch.setattr(StudentRun, "step", step)
    gc.disable()  # else they might go by chance
    try:
        assert train_few("breaking", "kd", output=tmp_path, teacher=teacher) == 1
    finally:
        gc.enable()
    assert len(kept["parameters"]) > 10
    assert len(breaking.seen) == 2
    assert kept["alive"] == []


def test_one_that_cannot_begin_leaves_the_others_alone(breaking, alone, teacher, tmp_path, capsys):
    breaking.where, breaking.error = "prepare", torch.OutOfMemoryError("no room for the memory bank")
    assert train_few("kd", "breaking", output=tmp_path, teacher=teacher) == 1
    errors = capsys.readouterr().err
    assert "breaking, trial 1, epoch 1, step 0" in errors
    assert "--group_size" in errors
    assert_same(outcome_of(folder_of(tmp_path, "kd")), alone)


def test_a_reason_that_is_no_text_is_written_all_the_same(tmp_path):
    folder = RunFolder(tmp_path, "resnet8")
    folder.write_failure("a run that has not begun")
    assert not folder.failure.exists()
    folder.write_config({})
    folder.write_failure("no file caf\udce9.png")
    assert read_json(folder.failure) == {"reason": "no file caf\\udce9.png"}


def test_the_line_has_the_place_in_the_methods_own_file(breaking, teacher, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("engine.training.failures.METHODS_FOLDER", Path(__file__).parent)
    breaking.error = ValueError("shapes")
    assert train_few("breaking", output=tmp_path, teacher=teacher) == 1
    text = Path(__file__).read_text().splitlines()
    number = max(n for n, line in enumerate(text, 1) if line.strip() == "raise copy(Breaking.error)")
    assert f"ValueError: shapes at training/test_failures.py:{number};" in capsys.readouterr().err


def test_the_traceback_and_the_reason_go_when_the_run_goes_on(breaking, teacher, tmp_path):
    breaking.error = ValueError("a bug")
    options = {"output": tmp_path, "teacher": teacher}
    assert train_few("breaking", **options) == 1
    folder = folder_of(tmp_path)
    assert (folder / "error.txt").exists()
    runs, (skipped,) = read_runs([tmp_path])
    assert (runs, skipped.state) == ([], "failed")
    assert "ValueError: a bug" in skipped.reason
    breaking.where = None  # fixed
    assert train_few("breaking", **options) == 0
    assert not (folder / "error.txt").exists()
    assert not (folder / "failure.json").exists()
    assert len(read_runs([tmp_path])[0]) == 1


def test_an_error_of_the_shared_batches_ends_all_and_loses_no_step(alone, teacher, tmp_path, monkeypatch):
    def broken():
        raise ValueError("a bug in the augmentation")

    options = {"output": tmp_path, "teacher": teacher}
    with monkeypatch.context() as patch:
        at_step(patch, 2, 3, broken)
        with pytest.raises(ValueError, match="augmentation"):
            train_few("none", "kd", **options)
    assert [load(folder / "checkpoint.pth")["position"] for folder in folders_of(tmp_path)] == [[2, 3]] * 2
    assert train_few("none", "kd", **options) == 0
    assert_same(outcome_of(folder_of(tmp_path, "kd")), alone)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_stops_a_process_is_no_failure(stop, breaking, teacher, tmp_path):
    breaking.error = stop()
    with pytest.raises(stop):
        train_student.main.__wrapped__(arguments("breaking", output=tmp_path, teacher=teacher, small=SMALL))
    assert not (folder_of(tmp_path) / "error.txt").exists()
    assert load(folder_of(tmp_path) / "checkpoint.pth")["position"] == [2, 0]


def test_of_several_processes_an_unforeseen_error_ends_all(breaking, teacher, tmp_path, monkeypatch):
    """The others wait for this one amid the step; torchrun ends them when it dies. Half a step is not saved."""
    breaking.error = KeyError("a name")
    monkeypatch.setattr(
        "engine.training.group.reason_of",
        lambda run, error, world: reason_of(run, error, World(rank=0, size=2)),
    )
    with pytest.raises(KeyError):
        train_few("kd", "breaking", output=tmp_path, teacher=teacher)
    positions = [load(folder_of(tmp_path, method) / "checkpoint.pth")["position"] for method in ("kd", "breaking")]
    assert positions == [[2, 3], [2, 0]]
