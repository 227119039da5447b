"""Learning curves: test accuracy after each epoch, mean and band over trials, from the records of finished runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from analysis.subjects import safe_name, unique_names
from reporting.files import number_or_none, read_tail
from reporting.runs import METRICS, Run
from reporting.table import GROUP, PAIR, tabulate

Band = Literal["range", "std"]
BAND_NAMES: tuple[Band, ...] = get_args(Band)


@dataclass(frozen=True)
class Curve:
    """One line: for each epoch on record the mean over `n` trials, and the band from `low` to `high`; top-1 in %."""

    label: str
    epochs: np.ndarray
    n: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class CurvePicture:
    """The curves of one pair of networks under one protocol.

    Attributes:
        name: fit for a file.
        teacher: mean top-1 of the checkpoints that taught, in %; None without a teacher.
    """

    name: str
    title: str
    curves: tuple[Curve, ...]
    teacher: float | None = None


def curve_of(label: str, histories: Sequence[dict[int, float]], band: Band) -> Curve:
    """The line of trials that are each given as {epoch: top-1}.

    Args:
        band: "range" from the least to the greatest, "std" one sample standard deviation about the mean (none for one
            trial).
    """
    epochs = sorted(set().union(*histories))
    values = [np.array([history[epoch] for history in histories if epoch in history]) for epoch in epochs]
    mean = np.array([v.mean() for v in values])
    if band == "range":
        low, high = np.array([v.min() for v in values]), np.array([v.max() for v in values])
    else:
        std = np.array([v.std(ddof=1) if len(v) > 1 else 0.0 for v in values])
        low, high = mean - std, mean + std
    return Curve(label, np.array(epochs), np.array([len(v) for v in values]), mean, low, high)


def history_of(folder: Path) -> dict[int, float]:
    """{epoch: test top-1 in %} of a run; lines that do not say are passed over."""
    found = {}
    for line in read_tail(folder / METRICS):
        test = line.get("test")
        top1 = number_or_none(test.get("top1")) if isinstance(test, dict) else None
        if top1 is not None and isinstance(line.get("epoch"), int):
            found[line["epoch"]] = top1
    return found


def curve_pictures(runs: Sequence[Run], band: Band) -> tuple[list[CurvePicture], list[str]]:
    """A picture for each pair and protocol that the comparison tables have, and their notes.

    The runs and their labels are those of `tabulate`: each trial counts once, and the student alone belongs to every
    pair of that student.
    """
    table, notes = tabulate(runs)
    pictures = [picture for picture in _pictures(table, band) if picture.curves]
    names = unique_names([picture.name for picture in pictures])
    return [replace(picture, name=name) for picture, name in zip(pictures, names, strict=True)], notes


def _pictures(table: pd.DataFrame, band: Band) -> Iterator[CurvePicture]:
    of_pair = ~table.role.isin(["network", "probe"])
    for _, rows in table[of_pair].groupby(PAIR, sort=False):
        first = rows.iloc[0]
        taught = rows[rows.role == "teacher"].last_mean
        labels = rows.method.mask(rows.role == "student", "student alone")
        name = f"{first.dataset}_{first.teacher or 'no_teacher'}_{first.student}_{first.protocol_id}"
        title = f"{first.dataset}: {f'{first.teacher} → {first.student}' if first.teacher else first.student}"
        curves = _curves(rows.assign(label=labels)[rows.role != "teacher"], band)
        teacher = float(taught.iloc[0]) if len(taught) else None
        yield CurvePicture(safe_name(name), f"{title}\n{first.protocol}", curves, teacher)
    for role, what in (("network", "networks trained alone"), ("probe", "frozen backbones, new classifier")):
        for _, rows in table[table.role == role].groupby(GROUP, sort=False):
            first = rows.iloc[0]
            labels = rows.student if role == "network" else rows.student + ", " + rows.method
            title = f"{first.dataset}: {what}\n{first.protocol}"
            name = safe_name(f"{first.dataset}_{role}s_{first.protocol_id}")
            yield CurvePicture(name, title, _curves(rows.assign(label=labels), band))


def _curves(rows: pd.DataFrame, band: Band) -> tuple[Curve, ...]:
    made = []
    for row in rows.itertuples():
        histories = [history for path in row.paths if (history := history_of(Path(path)))]
        if histories:
            made.append(curve_of(row.label, histories, band))
    return tuple(made)
