"""Small runs on the digits, in this process or in one of their own, what they leave behind, and how to stop them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import nn

import train_student
import train_teacher
from common.errors import RequestError
from common.signals import STOP_SIGNALS
from dataset import DATASETS, Batch, BatchStream, DatasetEntry
from distiller_zoo import METHODS, options_of
from engine.checkpoints.weights import WeightsHeader, save_weights
from engine.protocol.plan import RunPlan
from engine.records.progress import Progress
from models import Network, create_model

ROOT = Path(__file__).parents[1]
DIGITS = DATASETS["digits"]
# Ten steps an epoch; plain SGD, so that networks with and without batch normalisation train alike.
SMALL = ("--dataset", "digits", "--recipe", "repdistiller", "--epochs", "2", "--batch_size", "130")
SMALL += ("--device", "cpu", "--precision", "fp32")
# For methods that have such an option.
SMALL_OPTIONS = {"nce_k": "64", "init_epochs": "1"}
STEPS = 10

Module = TypeVar("Module", bound=nn.Module)


# --- runs -----------------------------------------------------------------------------------------


def arguments(
    *methods: str,
    output: Path | str,
    teacher: Path | str | None = None,
    student: str = "resnet8",
    small: Sequence[str] = SMALL,
    extra: Sequence[str] = (),
) -> list[str]:
    """The command line of a small run; "all" stands for every method. What `extra` gives comes last and wins."""
    known: set[str] = set()
    for method in METHODS if methods == ("all",) else methods:
        with contextlib.suppress(RequestError):  # of methods that only the process knows that is to run them
            known |= options_of(method).keys()
    for option, value in SMALL_OPTIONS.items():
        if option in known and f"--{option}" not in extra:
            small = [*small, f"--{option}", value]
    path = () if teacher is None else ("--path_t", str(teacher))
    return ["--distill", *methods, "--model_s", student, *small, *path, "--output", str(output), *extra]


def train(*methods: str, **options: Any) -> int:
    """Run train_student.py in this process with `arguments`; returns its exit code."""
    return train_student.main(arguments(*methods, **options))


def train_alone(output: Path | str, *extra: str, model: str = "resnet8") -> int:
    """Run train_teacher.py in this process; returns its exit code."""
    return train_teacher.main(["--model", model, *SMALL, *extra, "--output", str(output)])


def run_script(script: str, *argv: object, timeout: float = 120, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a script as a user starts it, in a process of its own and without network."""
    command = [sys.executable, str(ROOT / script), *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment(), **options)


def environment() -> dict[str, str]:
    """This process' environment, with one thread and without network."""
    nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "HTTP", "HTTPS")}
    one_thread = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
    return os.environ | nowhere | one_thread


@contextlib.contextmanager
def default_stop_signals() -> Iterator[None]:
    """Give the signals that stop a command their default handlers: the tests themselves may run under `nohup`."""
    former = {signum: signal.signal(signum, signal.SIG_DFL) for signum in STOP_SIGNALS if signum != signal.SIGINT}
    try:
        yield
    finally:
        for signum, handler in former.items():
            signal.signal(signum, handler)


# --- networks -------------------------------------------------------------------------------------


def save_network(path: Path, arch: str = "resnet8", entry: DatasetEntry = DIGITS, seed: int = 0) -> Network:
    """Write a network with random weights to a file of the suite; returns it in evaluation mode."""
    torch.manual_seed(seed)
    network = create_model(arch, entry.num_classes, entry.image_size)
    with torch.no_grad():
        # Some networks start with uniform predictions, from which nothing is learned.
        network.last_linear.weight.normal_(std=0.5)
    measured = {"top1": 0.0, "top5": 0.0, "loss": 0.0}
    save_weights(path, network, WeightsHeader(arch, entry, 1, measured))
    return network.eval()


@torch.no_grad()
def disturb(module: Module) -> Module:
    """Move every parameter away from its first value, so that each counts; returns the module."""
    for parameter in module.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    return module


# --- what runs leave behind -----------------------------------------------------------------------


def folders_of(output: Path | str) -> list[Path]:
    """The folders of all runs below an output root, in order of their names."""
    return sorted(path.parent for path in Path(output).glob("*/*/config.json"))


def folder_of(output: Path | str, method: str | None = None) -> Path:
    """The folder of the only run below an output root, or of the only one of a method."""
    found = [f for f in folders_of(output) if method in (None, read_json(f / "config.json")["method"])]
    assert len(found) == 1, found
    return found[0]


def read_json(path: Path | str) -> Any:
    """The content of a JSON file."""
    return json.loads(Path(path).read_text())


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of a run's epochs."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def load(path: Path | str) -> Any:
    """The content of a checkpoint or weights file."""
    return torch.load(path, weights_only=True)


def outcome_of(folder: Path) -> dict[str, Any]:
    """All that must not depend on when a run was cut off, or on its company: results and weights, but no times."""
    timed = ("seconds", "images_per_second")
    result = read_json(folder / "result.json")
    weights = {path.name: load(path) for path in sorted(folder.glob("*.pth"))}
    metrics = [{key: record[key] for key in record if key not in timed} for record in read_metrics(folder)]
    return {"last": result["last"], "best": result["best"], "metrics": metrics, "weights": weights}


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    """Fail unless both are equal to the last bit, through dictionaries, lists and tensors."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{where}/{index}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    else:
        assert found == expected, where


# --- stopping in the midst of training ------------------------------------------------------------


def at_step(monkeypatch: pytest.MonkeyPatch, epoch: int, step: int, action: Callable[[], object]) -> None:
    """Do something when the training loop is given the batch of this step."""
    original = BatchStream.epoch

    def batches(self: BatchStream, number: int, first_step: int = 0) -> Iterator[Batch]:
        for batch in original(self, number, first_step):
            if (batch.epoch, batch.step) == (epoch, step):
                action()
            yield batch

    monkeypatch.setattr(BatchStream, "epoch", batches)


def stop_at_step(monkeypatch: pytest.MonkeyPatch, epoch: int, step: int) -> None:
    """Ask this process to stop, as Ctrl-C does, when the batch of this step is given; the step is still done."""
    at_step(monkeypatch, epoch, step, lambda: signal.raise_signal(signal.SIGINT))


def stop_after_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Ask this process to stop, as Ctrl-C does, when the line of this epoch is printed."""
    original = Progress.epoch
    asked: list[Progress] = []

    def line(self: Progress, plan: RunPlan, record: dict[str, Any], best: dict[str, Any]) -> None:
        original(self, plan, record, best)
        if record["epoch"] == epoch and self not in asked:  # once a command: a second Ctrl-C would stop at once
            asked.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Progress, "epoch", line)
