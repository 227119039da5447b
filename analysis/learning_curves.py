"""Learning curves: test accuracy after each epoch, mean and band over trials, from the records of finished runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import pandas as pd

from analysis.named_networks import ALONE, safe_name, unique_names
from reporting.records.epoch_curves import Band, Curve, curve_of
from reporting.records.run import Run
from reporting.records.selection import entries_of
from reporting.tables.columns import GROUP, PAIR
from reporting.tables.notes import notes_on
from reporting.tables.repetitions import count_once
from reporting.tables.table import tabulate

BAND_NAMES: tuple[Band, ...] = get_args(Band)


@dataclass(frozen=True)
class CurvePicture:
    """The curves of one pair of networks under one protocol.

    Attributes:
        name: part of the file name.
        teacher: mean top-1 of the checkpoints that taught, in %; None without a teacher.
    """

    name: str
    title: str
    curves: tuple[Curve, ...]
    teacher: float | None = None


def curve_pictures(runs: Sequence[Run], band: Band) -> tuple[list[CurvePicture], list[str]]:
    """Curves of each pair and protocol of the comparison tables, and the notes of these tables.

    Runs and labels are those of `tabulate`: each trial counts once, and the student alone belongs to every pair with
    that student.
    """
    counted, notes = count_once(entries_of(runs))
    table = tabulate(counted)
    of_path = {run.path: run for run in runs}
    pictures = [picture for picture in _pictures(table, of_path, band) if picture.curves]
    names = unique_names([picture.name for picture in pictures])
    notes += notes_on(counted)
    return [replace(picture, name=name) for picture, name in zip(pictures, names, strict=True)], notes


def _pictures(table: pd.DataFrame, runs: Mapping[str, Run], band: Band) -> Iterator[CurvePicture]:
    of_pair = ~table.role.isin(["network", "probe"])
    for _, rows in table[of_pair].groupby(PAIR, sort=False):
        first = rows.iloc[0]
        taught = rows[rows.role == "teacher"].last_mean
        labels = rows.method.mask(rows.role == "student", ALONE)
        name = f"{first.dataset}_{first.teacher or 'no_teacher'}_{first.student}_{first.protocol_id}"
        title = f"{first.dataset}: {f'{first.teacher} → {first.student}' if first.teacher else first.student}"
        curves = _curves(rows.assign(label=labels)[rows.role != "teacher"], runs, band)
        teacher = float(taught.iloc[0]) if len(taught) else None
        yield CurvePicture(safe_name(name), f"{title}\n{first.protocol}", curves, teacher)
    for role, what in (("network", "networks trained alone"), ("probe", "frozen backbones, new classifier")):
        for _, rows in table[table.role == role].groupby(GROUP, sort=False):
            first = rows.iloc[0]
            labels = rows.student if role == "network" else rows.student + ", " + rows.method
            title = f"{first.dataset}: {what}\n{first.protocol}"
            name = safe_name(f"{first.dataset}_{role}s_{first.protocol_id}")
            yield CurvePicture(name, title, _curves(rows.assign(label=labels), runs, band))


def _curves(rows: pd.DataFrame, runs: Mapping[str, Run], band: Band) -> tuple[Curve, ...]:
    made = []
    for row in rows.itertuples():
        histories = [history for path in row.paths if (history := runs[path].history())]
        if histories:
            made.append(curve_of(row.label, histories, band))
    return tuple(made)
