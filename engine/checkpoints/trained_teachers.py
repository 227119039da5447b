"""Finished runs of train_teacher.py, found by their records."""

import json
from dataclasses import dataclass
from pathlib import Path

from common.messages import counted
from models.registry import file_name_of


@dataclass(frozen=True)
class TeacherRun:
    """A finished run of train_teacher.py below an output root.

    Attributes:
        weights: weights of its last epoch.
        protocol_id: equal for two runs that differ in their trial alone.
        top1: accuracy of the last epoch in per cent, None if it is unknown.
    """

    weights: Path
    model: str
    protocol_id: str
    trial: int
    epochs: int
    top1: float | None

    def __str__(self) -> str:
        accuracy = "accuracy unknown" if self.top1 is None else f"Acc@1 {self.top1:.2f}"
        return f"{self.model}, {counted(self.epochs, 'epoch')}, {accuracy} ({self.weights})"


def teacher_runs(dataset: str, model: str | None, models: Path) -> list[TeacherRun]:
    """Finished runs on a data set, in the order of their trials; damaged records are skipped.

    Args:
        model: network, None for any.
        models: folder of the runs.
    """
    found = []
    for config_file in sorted(models.glob("*/config.json")):
        folder = config_file.parent
        try:
            config = json.loads(config_file.read_text())
            weights = folder / f"{file_name_of(config['model'])}_last.pth"
            if config["dataset"] != dataset or model not in (None, config["model"]) or not weights.is_file():
                continue
            run = (config["protocol_id"], int(config["trial"]), int(config["recipe"]["epochs"]))
            found.append(TeacherRun(weights, config["model"], *run, _top1(folder)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return sorted(found, key=lambda run: (run.trial, run.weights))


def _top1(folder: Path) -> float | None:
    try:
        return float(json.loads((folder / "result.json").read_text())["last"]["top1"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
