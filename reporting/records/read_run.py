"""Reads one folder: the finished run in it, checked against its own metrics, or the reason why it does not count."""

import math
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median_high, median_low
from typing import Any

from common.json_files import BrokenError, NotAnObjectError, printable, read_object, regular_file_size
from common.messages import counted
from reporting.records.config_fields import value_text
from reporting.records.latency import read_latency
from reporting.records.run import CONFIG, METRICS, RESULT, Accuracy, Costs, Run, Size, Skipped, Teacher, history_of
from reporting.records.untrusted_json import (
    LONGEST_TAIL,
    cost_or_none,
    count_or_none,
    integer,
    mapping,
    nonempty_text,
    objects,
    percentage,
    percentage_or_none,
    read_tail,
    text,
)

FORMAT = 1
KINDS = ("student", "teacher", "probe")
INITIAL_METRICS, FAILURE = "initial_metrics.jsonl", "failure.json"
ROUNDING = 0.01  # points by which one accuracy may differ from file to file, where records were rounded


def read_folder(folder: Path) -> Run | Skipped:
    """Returns the run in one folder, or why it does not count."""
    path = printable(str(folder))
    try:
        config = read_object(folder / CONFIG)
    except NotAnObjectError:
        return Skipped(path, "foreign", "config.json of another program")
    except BrokenError as error:
        return Skipped(path, "broken", _with_epoch(str(error), folder, {}))
    if "format" not in config or config.get("kind") not in KINDS:
        return Skipped(path, "foreign", "config.json of another program")
    if config["format"] != FORMAT:
        return Skipped(path, "foreign", printable(f"format {config['format']!r:.20}, and this reads {FORMAT}"))
    try:
        if not os.path.lexists(folder / RESULT):
            return Skipped(path, *_why_unfinished(folder, config))
        result = read_object(folder / RESULT)
        status = text(result, "status", RESULT)
        if status != "finished":
            return Skipped(path, "unfinished", _with_epoch(f"status {status:.40}", folder, config))
        return _read_run(folder, config, result)
    except BrokenError as error:
        return Skipped(path, "broken", _with_epoch(str(error), folder, config))


def _why_unfinished(folder: Path, config: dict[str, Any]) -> tuple[str, str]:
    """Returns state and reason of a run without a result."""
    try:
        reason = nonempty_text(read_object(folder / FAILURE), "reason", FAILURE)
    except BrokenError:
        return "unfinished", _with_epoch("no result yet", folder, config)
    return "failed", textwrap.shorten(reason, 300, placeholder=" …")


def _with_epoch(reason: str, folder: Path, config: dict[str, Any]) -> str:
    epochs = [line["epoch"] for line in read_tail(folder / METRICS) if isinstance(line.get("epoch"), int)]
    recipe = config.get("recipe")
    planned = recipe.get("epochs") if isinstance(recipe, dict) else None
    of = f" of {planned}" if isinstance(planned, int) else ""
    return f"{reason} (epoch {epochs[-1] if epochs else 0}{of})"


def _read_run(folder: Path, config: dict[str, Any], result: dict[str, Any]) -> Run:
    """Raises BrokenError where a required field is missing or invalid, or result and metrics contradict each other."""
    student = config["kind"] == "student"
    backbone = mapping(config, "backbone", CONFIG) if config["kind"] == "probe" else None
    epochs = integer(mapping(config, "recipe", CONFIG), "epochs", f"{CONFIG} recipe")
    lines = read_tail(folder / METRICS)
    history = history_of(lines)
    last, best = _read_accuracies(result, history, epochs)
    run = Run(
        folder=folder,
        kind=config["kind"],
        dataset=nonempty_text(config, "dataset", CONFIG),
        num_classes=integer(config, "num_classes", CONFIG),
        image_size=integer(config, "image_size", CONFIG),
        model=nonempty_text(config, "model", CONFIG),
        method=text(config, "method", CONFIG) if student else "",
        label=nonempty_text(config, "label", CONFIG) if student else _trained_by(backbone),
        teachers=tuple(_teacher(entry) for entry in objects(config, "teachers", CONFIG)) if student else (),
        trial=integer(config, "trial", CONFIG),
        seed=integer(config, "seed", CONFIG),
        run_id=text(config, "run_id", CONFIG),
        protocol=text(config, "protocol", CONFIG),
        protocol_id=text(config, "protocol_id", CONFIG),
        epochs=epochs,
        last=last,
        best=best,
        costs=replace(
            _read_costs(result, lines, read_tail(folder / INITIAL_METRICS), config.get("environment")),
            latency=read_latency(folder),
        ),
        finished_at=_finished_at(result, folder / RESULT),
        backbone=text(backbone, "sha256", f"{CONFIG} backbone") if backbone else "",
        data=text(config, "data_sha256", CONFIG) if "data_sha256" in config else "",
        doubt=_missing_epochs(folder, history, epochs),
        config=config,
    )
    if run.method == "none" and run.teachers:
        raise BrokenError(f"{CONFIG}: method none with a teacher")
    return run


def _trained_by(backbone: dict[str, Any] | None) -> str:
    return "" if backbone is None else text(backbone, "trained_by", f"{CONFIG} backbone")


def _teacher(entry: dict[str, Any]) -> Teacher:
    where = f"{CONFIG} teachers"
    return Teacher(
        model=text(entry, "model", where),
        sha256=text(entry, "sha256", where),
        # That of a teacher of other classes than the data set's is null.
        accuracy=None if "top1" in entry and entry["top1"] is None else _accuracy(entry, where),
        normalisation=_normalisation(entry.get("normalisation")),
        epoch=_epoch_of_file(entry.get("path")),
        size=_size(entry),
    )


def _size(record: Mapping[str, Any]) -> Size:
    """Returns the size of a network as a teacher's entry or a result has it; None for what is no count."""
    parameters = count_or_none(record.get("parameters"))
    if parameters is not None:
        parameters += count_or_none(record.get("head_parameters")) or 0
    return Size(parameters, count_or_none(record.get("macs")), count_or_none(record.get("file_bytes")))


def _normalisation(value: object) -> str:
    """Returns "mean 0.5, std 0.5" for three equal numbers each, and all three where they differ; "" for none."""
    if not value:
        return ""
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(part, list) and part for part in value)):
        return printable(f"normalisation {value_text(value):.60}")
    of_each = (part[:1] if all(number == part[0] for number in part) else part for part in value)
    mean, std = (printable(" ".join(map(str, part))) for part in of_each)
    return f"mean {mean}, std {std}"


def _epoch_of_file(path: object) -> str:
    """Returns the epoch that a weights file of this suite is of, by its name; "" for other names."""
    name = re.split(r"[/\\]", path)[-1] if isinstance(path, str) else ""
    if found := re.fullmatch(r"ckpt_epoch_(\d{1,9})\.pth", name):
        return f"epoch {found[1]}"
    found = re.fullmatch(r".+_(last|best)\.pth", name)
    return f"{found[1]} epoch" if found else ""


def _read_accuracies(result: dict[str, Any], history: Mapping[int, float], epochs: int) -> tuple[Accuracy, Accuracy]:
    """Returns the accuracy after the last epoch and after the best one.

    Args:
        history: top-1 by epoch, from the metrics.

    Raises:
        BrokenError: the last epoch is not the recipe's, its loss is not finite, or the figures contradict each other.
    """
    last, best = mapping(result, "last", RESULT), mapping(result, "best", RESULT)
    if integer(last, "epoch", f"{RESULT} last") != epochs:  # another epoch's figure is not the table's figure
        raise BrokenError(f"its last epoch is {last['epoch']}, its recipe has {epochs}")
    found = [_accuracy(part, f"{RESULT} {name}") for name, part in (("last", last), ("best", best))]
    loss = last.get("loss", 0.0)
    if loss is None or (isinstance(loss, float) and not math.isfinite(loss)):
        raise BrokenError(f"{RESULT} last: loss is {'not finite' if loss is None else loss}")
    _check_agreement(found[0].top1, found[1].top1, history, epochs)
    return found[0], found[1]


def _accuracy(part: dict[str, Any], where: str) -> Accuracy:
    """Raises BrokenError without top-1; the others may be missing."""
    others = (percentage_or_none(part.get(name)) for name in ("top5", "balanced"))
    return Accuracy(percentage(part, "top1", where), *others)


def _check_agreement(last: float, best: float, history: Mapping[int, float], epochs: int) -> None:
    """Raises BrokenError where the last epoch is above the best, or one of them differs from the metrics."""
    if best < last - ROUNDING:
        raise BrokenError(f"{RESULT}: top-1 of the best epoch is {best:.2f}, of the last one {last:.2f}")
    recorded = history.get(epochs, last)
    if abs(recorded - last) > ROUNDING:
        raise BrokenError(f"top-1 of the last epoch is {last:.2f} in {RESULT}, {recorded:.2f} in {METRICS}")
    highest = max(history.values(), default=best)
    if abs(highest - best) > ROUNDING and (highest > best or len(history) == epochs):
        raise BrokenError(f"top-1 of the best epoch is {best:.2f} in {RESULT}, {highest:.2f} in {METRICS}")


def _missing_epochs(folder: Path, history: Mapping[int, float], epochs: int) -> str:
    """Returns which epochs the metrics lack to check the result; "" where they lack none."""
    try:
        whole = regular_file_size(folder / METRICS) <= LONGEST_TAIL
    except BrokenError as error:
        return str(error)
    needed = set(range(1, epochs + 1)) if whole else {epochs}
    lacking = len(needed - history.keys())
    return f"{METRICS} lacks {lacking} of {counted(epochs, 'epoch')}" if lacking else ""


def _finished_at(result: dict[str, Any], file: Path) -> float:
    """Returns the end on record, in seconds since 1970; for older records the time of the file."""
    try:
        moment = datetime.fromisoformat(result["finished"])
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):  # the last: UTC has no such year
        return file.stat().st_mtime


def _read_costs(
    result: dict[str, Any], lines: list[dict[str, Any]], initial: list[dict[str, Any]], environment: object
) -> Costs:
    """Returns the costs on record.

    Args:
        lines, initial: records of the epochs, and of those of an initial stage.
    """
    extra, size = result.get("method_parameters"), _size(result)
    return Costs(
        seconds_per_epoch=_seconds_per_epoch(lines, result),
        initial_epochs=len({line["epoch"] for line in initial if isinstance(line.get("epoch"), int)}),
        initial_seconds=cost_or_none(math.fsum(_costs_of(initial, "seconds"))),
        images_per_second=_images_per_second(lines, result),
        peak_memory_mib=cost_or_none(result.get("peak_memory_mib")),
        parameters=integer(result, "parameters", RESULT) if size.parameters is None else size.parameters,
        method_parameters=None if extra is None else integer(result, "method_parameters", RESULT),
        hardware=_hardware(environment),
        macs=size.macs,
        file_bytes=size.file_bytes,
    )


def _costs_of(lines: Sequence[dict[str, Any]], name: str) -> list[float]:
    values = [cost_or_none(line.get(name)) for line in lines]
    return [value for value in values if value is not None]


def _seconds_per_epoch(lines: list[dict[str, Any]], result: dict[str, Any]) -> float | None:
    """Returns the median epoch's seconds; without epochs on record the mean of the wall time.

    The wall time may include an initial stage.
    """
    if seconds := _costs_of(lines, "seconds"):
        return median_low(seconds)
    wall, epochs = cost_or_none(result.get("wall_seconds")), cost_or_none(result.get("epochs"))
    return cost_or_none(wall / epochs) if wall and epochs else None


def _images_per_second(lines: list[dict[str, Any]], result: dict[str, Any]) -> float | None:
    """Returns the median epoch's rate; without epochs on record the result's."""
    rates = _costs_of(lines, "images_per_second")
    return median_high(rates) if rates else cost_or_none(result.get("images_per_second"))


def _hardware(environment: object) -> str:
    if not isinstance(environment, dict):
        return ""
    device, processor = environment.get("device"), environment.get("processor")
    if device == "cpu" and isinstance(processor, str) and processor:
        threads = environment.get("threads")
        name = printable(processor).replace(";", ",")  # semicolons separate several
        return name + (f", {counted(threads, 'thread')}" if isinstance(threads, int) else "")
    return printable(device) if isinstance(device, str) else ""
