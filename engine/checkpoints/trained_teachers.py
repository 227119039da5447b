"""Finished runs of train_teacher.py, found by their records."""

import os
from dataclasses import dataclass
from pathlib import Path

from common.errors import RequestError
from common.json_files import object_or_none
from common.messages import counted
from common.user_paths import shown_path, why_unreachable
from models.registry import file_name_of


@dataclass(frozen=True)
class TeacherRun:
    """A finished run of train_teacher.py below an output root.

    Attributes:
        weights: weights of its last epoch.
        protocol_id: equal for two runs that differ in their trial alone, which start from the same weights too.
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
        return f"{shown_path(self.model)}, {counted(self.epochs, 'epoch')}, {accuracy} ({shown_path(self.weights)})"


def teacher_runs(dataset: str, model: str | None, models: Path) -> list[TeacherRun]:
    """Finished runs on a data set, in the order of their trials; damaged records are skipped.

    Args:
        model: network, None for any.
        models: folder of the runs.

    Raises:
        RequestError: the folder cannot be entered.
    """
    if (problem := why_unreachable(models)) is not None:
        raise RequestError(f"--output: {shown_path(models)} {problem}; change its permissions or choose another folder")
    found = []
    for config_file in sorted(models.glob("*/config.json")):
        folder = config_file.parent
        try:
            config = object_or_none(config_file) or {}
            weights = folder / f"{file_name_of(config['model'])}_last.pth"
            wanted = config["dataset"] == dataset and model in (None, config["model"])
            if not wanted or weights.parent != folder or not os.path.isfile(weights):
                continue
            start = (config.get("init") or {}).get("sha256", "")
            run = (f"{config['protocol_id']}{start}", int(config["trial"]), int(config["recipe"]["epochs"]))
            found.append(TeacherRun(weights, config["model"], *run, _top1(folder)))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            continue
    return sorted(found, key=lambda run: (run.trial, run.weights))


def _top1(folder: Path) -> float | None:
    try:
        return float((object_or_none(folder / "result.json") or {})["last"]["top1"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
