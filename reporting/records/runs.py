"""Folders of runs → finished runs that can be compared, and the rest with the reason why not."""

import math
import os
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median_high, median_low
from typing import Any

from common.messages import counted
from reporting.records.epoch_curves import history_of
from reporting.records.untrusted_json import (
    LONGEST_TAIL,
    BrokenError,
    NotAnObjectError,
    cost_or_none,
    integer,
    mapping,
    nonempty_text,
    objects,
    percentage,
    percentage_or_none,
    printable,
    read_object,
    read_tail,
    regular_file_size,
    text,
    walk,
)

FORMAT = 1
KINDS = ("student", "teacher", "probe")
CONFIG, METRICS, RESULT = "config.json", "metrics.jsonl", "result.json"
INITIAL_METRICS, FAILURE = "initial_metrics.jsonl", "failure.json"
ROUNDING = 0.01  # points by which one accuracy may differ from place to place, where records were rounded


@dataclass(frozen=True)
class Teacher:
    """A checkpoint that taught a run."""

    model: str
    sha256: str
    top1: float
    top5: float | None = None


@dataclass(frozen=True)
class Run:
    """A finished run, as far as a table needs it.

    Attributes:
        label: the method as tables call it; of a probe, how its backbone was trained.
        last_top1, last_top5, best_top1: test accuracy in per cent after the last epoch and after the best one on the
            test set.
        seconds_per_epoch, images_per_second: of the median epoch on record (the faster one of two in the middle), so
            that neither a first epoch that compiles nor one that the machine was stopped in counts, and that both
            are of one epoch.
        initial_epochs, initial_seconds: of the stage before the first epoch that some methods have; not in the above.
        peak_memory_mib: of the process on the CPU, of the allocator on a GPU; runs of one command share it.
        method_parameters: what the method trains beside the student.
        finished_at: when the run ended, in seconds since 1970.
        backbone: SHA-256 of the weights that a probe froze.
        data: SHA-256 of the data set; "" where the record does not say.
        hardware: what it ran on, in words; "" where the record does not say.
        epochs: as the recipe has them.
        doubt: why the result could not be checked by the metrics; "" where it was.
        config: all of config.json.
        folder: where the records are; `path` is the same as one line of text.
        group: what `--by` puts the run under, such as "recipe.epochs = 240"; "" without it.
        apart: what tells the data that it saw from that of other runs under the same name, such as "data 1a2b3c4d"; ""
            where all saw the same.
        former_code: which code made it, where it was other code than that of the last run of this label to finish, and
            the label says so (see `code.apart_by_code`).
        methods: how many methods its pair has among all runs; 0 where nobody has counted (`table.count_methods`).
        selection: which epoch's test accuracy is the figure: "last", "best" (on the test set) or "validation".
        figure: (top-1, top-5) of that epoch; None for those of the last epoch.
    """

    path: str
    kind: str
    dataset: str
    num_classes: int
    image_size: int
    model: str
    method: str
    label: str
    teachers: tuple[Teacher, ...]
    trial: int
    seed: int
    run_id: str
    protocol: str
    protocol_id: str
    last_top1: float
    last_top5: float | None
    best_top1: float
    seconds_per_epoch: float | None
    parameters: int
    method_parameters: int | None
    finished_at: float
    backbone: str = ""
    data: str = ""
    best_top5: float | None = None
    images_per_second: float | None = None
    initial_epochs: int = 0
    initial_seconds: float | None = None
    peak_memory_mib: float | None = None
    hardware: str = ""
    epochs: int = 0
    doubt: str = ""
    config: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    folder: Path = field(default=Path(), compare=False)
    group: str = ""
    apart: str = ""
    former_code: str = ""
    methods: int = 0
    selection: str = "last"
    figure: tuple[float, float | None] | None = None

    @property
    def top1(self) -> float:
        """The figure of the tables, in per cent."""
        return self.last_top1 if self.figure is None else self.figure[0]

    @property
    def top5(self) -> float | None:
        """Top-5 accuracy of the same epoch, in per cent."""
        return self.last_top5 if self.figure is None else self.figure[1]

    @property
    def config_path(self) -> Path:
        return self.folder / CONFIG

    def metrics(self) -> list[dict]:
        """The records of metrics.jsonl, an epoch each, read when asked for; broken lines are passed over."""
        return read_tail(self.folder / METRICS)

    @property
    def teacher(self) -> str:
        """The teachers' models in one word; their order is no part of it."""
        return "+".join(sorted(teacher.model for teacher in self.teachers))


@dataclass(frozen=True)
class Skipped:
    """A folder that no table counts. `state`: unfinished, failed, broken, foreign or unreadable."""

    path: str
    state: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.state}, {self.reason}"


def read_runs(roots: Iterable[str | Path]) -> tuple[list[Run], list[Skipped]]:
    """All runs at any depth below `roots`; a folder that two roots reach is read once."""
    runs, skipped, seen = [], [], set()
    for root in roots:
        unreadable: list[OSError] = []
        for folder, files in walk(Path(root), unreadable):
            real = os.path.realpath(folder)
            if real in seen or not {CONFIG, METRICS, RESULT} & set(files):
                continue
            seen.add(real)
            found = read_folder(folder)
            (runs if isinstance(found, Run) else skipped).append(found)
        skipped += [Skipped(printable(str(e.filename)), "unreadable", str(e.strerror)) for e in unreadable]
    return _apart_by_data(_in_one_wording(runs)), skipped


def _in_one_wording(runs: list[Run]) -> list[Run]:
    """Runs of one protocol under the words that say most: older records leave out what was changed of the recipe."""
    words: dict[str, set[str]] = {}
    for run in runs:
        words.setdefault(run.protocol_id, set()).add(run.protocol)
    fullest = {key: max(found, key=lambda text: (text.count("="), -len(text), text)) for key, found in words.items()}
    return [replace(run, protocol=fullest[run.protocol_id]) for run in runs]


def _apart_by_data(runs: list[Run]) -> list[Run]:
    """Runs that saw other bytes under one name of a data set, `apart` from each other.

    Those whose record does not say are taken to have seen what most saw.
    """
    seen: dict[tuple[str, int], Counter] = {}
    for run in runs:
        seen.setdefault((run.dataset, run.image_size), Counter()).update([run.data] if run.data else [])
    most = {key: max(found, key=lambda data: (found[data], data), default="") for key, found in seen.items()}
    return [
        replace(run, apart=f"data {run.data or most[run.dataset, run.image_size]:.8}")
        if len(seen[run.dataset, run.image_size]) > 1
        else run
        for run in runs
    ]


def read_folder(folder: Path) -> Run | Skipped:
    """The run in one folder, or why it does not count."""
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
        return _run(folder, path, config, result)
    except BrokenError as error:
        return Skipped(path, "broken", _with_epoch(str(error), folder, config))


def _why_unfinished(folder: Path, config: dict) -> tuple[str, str]:
    """The state of a run without a result, and the reason: its failure, where it says so."""
    try:
        reason = nonempty_text(read_object(folder / FAILURE), "reason", FAILURE)
    except BrokenError:
        return "unfinished", _with_epoch("no result yet", folder, config)
    return "failed", textwrap.shorten(reason, 300, placeholder=" …")


def _run(folder: Path, path: str, config: dict, result: dict) -> Run:
    student = config["kind"] == "student"
    backbone = mapping(config, "backbone", CONFIG) if config["kind"] == "probe" else None
    method = text(config, "method", CONFIG) if student else ""
    last, best = mapping(result, "last", RESULT), mapping(result, "best", RESULT)
    epochs = integer(mapping(config, "recipe", CONFIG), "epochs", f"{CONFIG} recipe")
    if integer(last, "epoch", f"{RESULT} last") != epochs:  # another epoch's figure is not the table's figure
        raise BrokenError(f"its last epoch is {last['epoch']}, its recipe has {epochs}")
    last_top1, best_top1 = percentage(last, "top1", f"{RESULT} last"), percentage(best, "top1", f"{RESULT} best")
    lines, initial = read_tail(folder / METRICS), read_tail(folder / INITIAL_METRICS)
    _check_finite(last, f"{RESULT} last")
    history = history_of(lines)
    _check_agreement(last_top1, best_top1, history, epochs)
    run = Run(
        path=path,
        kind=config["kind"],
        dataset=nonempty_text(config, "dataset", CONFIG),
        num_classes=integer(config, "num_classes", CONFIG),
        image_size=integer(config, "image_size", CONFIG),
        model=nonempty_text(config, "model", CONFIG),
        method=method,
        label=nonempty_text(config, "label", CONFIG) if student else _trained_by(backbone),
        teachers=tuple(_teacher(entry) for entry in objects(config, "teachers", CONFIG)) if student else (),
        trial=integer(config, "trial", CONFIG),
        seed=integer(config, "seed", CONFIG),
        run_id=text(config, "run_id", CONFIG),
        protocol=text(config, "protocol", CONFIG),
        protocol_id=text(config, "protocol_id", CONFIG),
        last_top1=last_top1,
        last_top5=percentage_or_none(last.get("top5")),
        best_top1=best_top1,
        seconds_per_epoch=_seconds_per_epoch(lines, result),
        parameters=integer(result, "parameters", RESULT),
        method_parameters=(
            integer(result, "method_parameters", RESULT) if result.get("method_parameters") is not None else None
        ),
        finished_at=_finished_at(result, folder / RESULT),
        backbone=text(backbone, "sha256", f"{CONFIG} backbone") if backbone else "",
        data=text(config, "data_sha256", CONFIG) if "data_sha256" in config else "",
        best_top5=percentage_or_none(best.get("top5")),
        images_per_second=_images_per_second(lines, result),
        initial_epochs=len({line["epoch"] for line in initial if isinstance(line.get("epoch"), int)}),
        initial_seconds=cost_or_none(math.fsum(_costs(initial, "seconds"))),
        peak_memory_mib=cost_or_none(result.get("peak_memory_mib")),
        hardware=_hardware(config.get("environment")),
        epochs=epochs,
        doubt=_missing(folder, history, epochs),
        config=config,
        folder=folder,
    )
    if method == "none" and run.teachers:
        raise BrokenError(f"{CONFIG}: method none with a teacher")
    return run


def _check_finite(measured: dict, where: str) -> None:
    """Raises BrokenError where the loss is on record and is no number: such weights answer nothing."""
    loss = measured.get("loss")
    if isinstance(loss, float) and not math.isfinite(loss):
        raise BrokenError(f"{where}: loss is {loss}")


def _missing(folder: Path, history: dict[int, float], epochs: int) -> str:
    """What the metrics lack, so that the result stands unchecked."""
    try:
        whole = regular_file_size(folder / METRICS) <= LONGEST_TAIL
    except BrokenError as error:
        return str(error)
    needed = set(range(1, epochs + 1)) if whole else {epochs}
    lacking = len(needed - history.keys())
    return f"{METRICS} lacks {lacking} of {counted(epochs, 'epoch')}" if lacking else ""


def _check_agreement(last: float, best: float, history: dict[int, float], epochs: int) -> None:
    """Raises BrokenError where the top-1 of the last epoch is above the best, or either other than the metrics say."""
    if best < last - ROUNDING:
        raise BrokenError(f"{RESULT}: top-1 of the best epoch is {best:.2f}, of the last one {last:.2f}")
    told = history.get(epochs, last)
    if abs(told - last) > ROUNDING:
        raise BrokenError(f"top-1 of the last epoch is {last:.2f} in {RESULT}, {told:.2f} in {METRICS}")
    highest = max(history.values(), default=best)
    if abs(highest - best) > ROUNDING and (highest > best or len(history) == epochs):
        raise BrokenError(f"top-1 of the best epoch is {best:.2f} in {RESULT}, {highest:.2f} in {METRICS}")


def _finished_at(result: dict, file: Path) -> float:
    """What the record says; older ones say nothing, and the time of their file may be that of a copy."""
    try:
        moment = datetime.fromisoformat(result["finished"])
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):  # the last: UTC has no such year
        return file.stat().st_mtime


def _trained_by(backbone: dict | None) -> str:
    return "" if backbone is None else text(backbone, "trained_by", f"{CONFIG} backbone")


def _teacher(entry: dict) -> Teacher:
    where = f"{CONFIG} teachers"
    return Teacher(
        model=text(entry, "model", where),
        sha256=text(entry, "sha256", where),
        top1=percentage(entry, "top1", where),
        top5=percentage_or_none(entry.get("top5")),
    )


def _costs(lines: list[dict], name: str) -> list[float]:
    values = [cost_or_none(line.get(name)) for line in lines]
    return [value for value in values if value is not None]


def _seconds_per_epoch(lines: list[dict], result: dict) -> float | None:
    """The median epoch's; without epochs on record what the wall time says, though it may hold an initial stage."""
    if seconds := _costs(lines, "seconds"):
        return median_low(seconds)
    wall, epochs = cost_or_none(result.get("wall_seconds")), cost_or_none(result.get("epochs"))
    return cost_or_none(wall / epochs) if wall and epochs else None


def _images_per_second(lines: list[dict], result: dict) -> float | None:
    """The median epoch's; without epochs on record what the result says."""
    rates = _costs(lines, "images_per_second")
    return median_high(rates) if rates else cost_or_none(result.get("images_per_second"))


def _hardware(environment: object) -> str:
    """The GPU, or the processor and how many of its cores were used."""
    if not isinstance(environment, dict):
        return ""
    device, processor = environment.get("device"), environment.get("processor")
    if device == "cpu" and isinstance(processor, str) and processor:
        threads = environment.get("threads")
        return printable(processor) + (f", {counted(threads, 'thread')}" if isinstance(threads, int) else "")
    return printable(device) if isinstance(device, str) else ""


def _with_epoch(reason: str, folder: Path, config: dict) -> str:
    epochs = [line["epoch"] for line in read_tail(folder / METRICS) if isinstance(line.get("epoch"), int)]
    recipe = config.get("recipe")
    planned = recipe.get("epochs") if isinstance(recipe, dict) else None
    of = f" of {planned}" if isinstance(planned, int) else ""
    return f"{reason} (epoch {epochs[-1] if epochs else 0}{of})"
