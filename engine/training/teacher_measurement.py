"""The accuracy of teachers on the test set: measured once, and kept in OUTPUT/teacher_accuracies.json.

A measurement is reused for the very same file, code of the network, data and kind of computation.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch

from common.errors import Interrupted, RunError
from common.files import write_json
from common.json_files import object_or_none
from engine.checkpoints.deployed_size import deployed_size
from engine.checkpoints.teachers import Teacher
from engine.device.compute import Compute
from engine.protocol.run_config import Figures
from engine.records.code_version import code_of
from engine.training.evaluation import batches_of_test, check_backbone, check_finite_loss, evaluate
from engine.training.session import Session

FILE = "teacher_accuracies.json"
MOST_KEPT = 500
FIGURES = ("top1", "top5", "loss", "balanced")

Item = TypeVar("Item")


def measure_teachers(teachers: Sequence[Teacher], session: Session) -> list[Figures]:
    """Return accuracy, loss and size of each teacher: published checkpoints are not always what they claim.

    A teacher of other classes has neither accuracy nor loss: its figures are None, and only its embedding is checked.

    Raises:
        RequestError: the predictions of one, or its embedding, are not finite.
        Interrupted: a stop was requested; no run has taken a step.
    """
    return [{**_measure(teacher, session), **_size(teacher)} for teacher in teachers]


def _measure(teacher: Teacher, session: Session) -> Figures:
    session.compute.place(teacher.network)
    if teacher.fit.misfit:
        check_backbone(teacher.network, teacher.file.path, session.data, session.entry, session.compute)
        session.progress.line(f"teacher {teacher.file.model}: no accuracy, {teacher.fit.misfit}")
        return dict.fromkeys(FIGURES)
    path, world = session.settings.output / FILE, session.compute.world
    conditions = _conditions(teacher, session)
    figures = _kept(path, conditions)
    if world.any(figures is None) or figures is None:  # several processes measure together, or none does
        figures = _measured_now(teacher, session)
        if world.is_main:
            _keep(path, conditions, figures)
    session.progress.line(f"teacher {teacher.file.model} ({teacher.file.path}): Acc@1 {figures['top1']:.2f}")
    return figures


def _size(teacher: Teacher) -> dict[str, float]:
    """The size of the teacher as far as it is known, and that of its file, which may hold more than the weights."""
    path = teacher.file.path
    size = deployed_size(teacher.network) | {"file_bytes": path.stat().st_size if path.is_file() else None}
    return {name: value for name, value in size.items() if value is not None}


def _measured_now(teacher: Teacher, session: Session) -> dict[str, float]:
    images = len(session.data.test_labels)
    session.progress.line(f"measuring teacher {teacher.file.model} on {images} test images")

    def watch(batches: Iterable[Item]) -> Iterator[Item]:
        total = batches_of_test(session.data, session.entry)
        with session.progress.bar(batches, teacher.file.model, total, unit="batch") as shown:
            for batch in shown:
                if session.stop_requested():
                    raise Interrupted("the teachers were being measured; the same command begins with that again")
                yield batch

    def measured(compute: Compute) -> dict:
        return evaluate(teacher.network, session.data, session.entry, compute, watch)

    result = measured(session.compute)
    check_finite_loss(result, teacher.file.path, session.entry, session.compute, measured)
    return {key: result[key] for key in FIGURES}


def _conditions(teacher: Teacher, session: Session) -> dict[str, Any]:
    """All that a measurement depends on, as JSON has it."""
    entry, method = session.entry, teacher.network.method
    conditions = {
        "sha256": teacher.file.sha256,
        "model": teacher.file.model,
        "code": code_of(None if method is None else method.name, [teacher.file.model]),
        "data_sha256": session.data_digest,
        "left_out": sorted(session.left_out.reasons),
        "image_size": entry.image_size,
        "normalisation": [teacher.file.normalisation_override, [entry.mean, entry.std]],
        "precision": session.compute.precision,
        "device": session.compute.device.type,
        "torch": torch.__version__,
    } | ({"weights_key": teacher.file.weights_key} if teacher.file.weights_key else {})
    return json.loads(json.dumps(conditions))


def _kept(path: Path, conditions: dict[str, Any]) -> dict[str, float] | None:
    """The figures that were measured under these conditions; None if there are none."""
    for entry in _entries(path):
        if entry.get("conditions") == conditions:
            figures = {key: entry[key] for key in FIGURES if isinstance(entry.get(key), float)}
            if len(figures) == len(FIGURES) and all(map(math.isfinite, figures.values())):
                return figures
    return None


def _keep(path: Path, conditions: dict[str, Any], figures: dict[str, float]) -> None:
    if not all(map(math.isfinite, figures.values())):
        return
    others = [entry for entry in _entries(path) if entry.get("conditions") != conditions]
    content = {"format": 1, "teachers": [*others, {"conditions": conditions, **figures}][-MOST_KEPT:]}
    # It would only save time: where the runs themselves cannot be written, they say so.
    with suppress(RunError, OSError):
        for half_written in path.parent.glob(f".{path.name}.*.tmp"):  # by a command that was killed
            half_written.unlink(missing_ok=True)
        write_json(path, content)


def _entries(path: Path) -> list[dict[str, Any]]:
    """The entries of the file; none if it cannot be read, or is of another format."""
    try:
        content = object_or_none(path) or {}
        entries = content["teachers"] if content["format"] == 1 else []
        return [entry for entry in entries if isinstance(entry, dict)]
    except (KeyError, TypeError):
        return []
