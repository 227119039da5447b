"""Small runs on the digits, in this process or in one of their own, and what they leave behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

import train_student
import train_teacher
from common.errors import RequestError
from dataset import DATASETS, BatchStream
from distiller_zoo import METHODS, options_of
from engine.checkpoints.weights import WeightsHeader, save_weights
from engine.records.progress import Progress
from models import create_model

ROOT = Path(__file__).parents[1]
DIGITS = DATASETS["digits"]
# Ten steps an epoch; plain SGD, so that networks with and without batch normalisation train alike.
SMALL = ("--dataset", "digits", "--recipe", "repdistiller", "--epochs", "2", "--batch_size", "130")
SMALL += ("--device", "cpu", "--precision", "fp32")
# For methods that have such an option.
SMALL_OPTIONS = {"nce_k": "64", "init_epochs": "1"}
STEPS = 10


def arguments(*methods, output, teacher=None, student="resnet8", small=SMALL, extra=()):
    """The command line of a small run."""
    known = set()
    for method in METHODS if methods == ("all",) else methods:
        with contextlib.suppress(RequestError):  # of methods that only the process knows that is to run them
            known |= options_of(method).keys()
    for option, value in SMALL_OPTIONS.items():
        if option in known and f"--{option}" not in extra:
            small = [*small, f"--{option}", value]
    path = () if teacher is None else ("--path_t", str(teacher))
    return ["--distill", *methods, "--model_s", student, *small, *path, "--output", str(output), *extra]


def train(*methods, **options):
    """train_student.py in this process; its exit code."""
    return train_student.main(arguments(*methods, **options))


def train_alone(output, *extra, model="resnet8"):
    """train_teacher.py in this process; its exit code."""
    return train_teacher.main(["--model", model, *SMALL, *extra, "--output", str(output)])


def run_script(script, *argv, timeout=120, **options):
    """A script as a user starts it, without network."""
    command = [sys.executable, str(ROOT / script), *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment(), **options)


def environment():
    nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "HTTP", "HTTPS")}
    one_thread = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
    return os.environ | nowhere | one_thread


def save_network(path, arch="resnet8", entry=DIGITS, seed=0):
    """A network with random weights in a file of the suite; returns the network."""
    torch.manual_seed(seed)
    network = create_model(arch, entry.num_classes, entry.image_size)
    with torch.no_grad():
        # Some networks start with uniform predictions, from which nothing is learned.
        network.last_linear.weight.normal_(std=0.5)
    measured = {"top1": 0.0, "top5": 0.0, "loss": 0.0}
    save_weights(path, network, WeightsHeader(arch, entry, 1, measured))
    return network.eval()


@torch.no_grad()
def disturb(module):
    """Move every parameter away from its first value, so that each counts."""
    for parameter in module.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    return module


def folders_of(output):
    """The folders of all runs below an output root."""
    return sorted(path.parent for path in Path(output).glob("*/*/config.json"))


def folder_of(output, method=None):
    """The folder of the only run (of a method)."""
    found = [f for f in folders_of(output) if method in (None, read_json(f / "config.json")["method"])]
    assert len(found) == 1, found
    return found[0]


def read_json(path):
    return json.loads(Path(path).read_text())


def read_metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def load(path):
    return torch.load(path, weights_only=True)


def outcome_of(folder):
    """All that must not depend on when a run was cut off, or on its company: no times."""
    timed = ("seconds", "images_per_second")
    result = read_json(folder / "result.json")
    weights = {path.name: load(path) for path in sorted(folder.glob("*.pth"))}
    metrics = [{key: record[key] for key in record if key not in timed} for record in read_metrics(folder)]
    return {"last": result["last"], "best": result["best"], "metrics": metrics, "weights": weights}


def assert_same(found, expected, where=""):
    """Equality to the last bit through dictionaries, lists and tensors."""
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


def at_step(monkeypatch, epoch, step, action):
    """Do something when the batch of this step is made, in the midst of training."""
    original = BatchStream._batch

    def batch(self, *content):
        if content[-2:] == (epoch, step):
            action()
        return original(self, *content)

    monkeypatch.setattr(BatchStream, "_batch", batch)


def stop_at_step(monkeypatch, epoch, step):
    """Ask this process to stop, as Ctrl-C does, when the batch of this step is made; the step is still done."""
    at_step(monkeypatch, epoch, step, lambda: signal.raise_signal(signal.SIGINT))


def stop_after_epoch(monkeypatch, epoch):
    """Ask this process to stop, as Ctrl-C does, when the line of this epoch is printed."""
    original, asked = Progress.epoch, []

    def line(self, plan, record, best):
        original(self, plan, record, best)
        if record["epoch"] == epoch and self not in asked:  # once a command: a second Ctrl-C would stop at once
            asked.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Progress, "epoch", line)
