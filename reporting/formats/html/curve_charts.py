"""Charts of a report's runs: test accuracy after each epoch, and accuracy against what it cost."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd

from common.messages import counted
from reporting.formats.html.chart import (
    BOTTOM,
    COLOURS,
    DASHES,
    LETTER,
    NAMES_WIDTH,
    ROW_HEIGHT,
    TOP,
    Chart,
    Dot,
    DotPlot,
    DotRow,
    Line,
    horizontal,
    path,
    place_names,
    vertical,
)
from reporting.records.epoch_curves import LEADING, curve_of, fits_beside, leading_labels
from reporting.tables.columns import GROUP, PAIR, REFERENCE
from reporting.tables.cost_tables import MIXED_HARDWARE, costs_by_hardware
from reporting.tables.numbers import number
from reporting.tables.ranking import by_held_out, ranked
from reporting.tables.report import Report
from reporting.tables.wording import NAMES

COST = "seconds per epoch"
AXES = {"test": "test top-1 (%)", "validation": "held-out top-1 (%)"}
REFERENCES = (NAMES["student"], REFERENCE)  # shown beside the best
SHOWN_FIRST = f"Shown at first: the best {LEADING}, {REFERENCE} and the student alone. The others are switched on here."
HIDDEN_NAMES = "Names that would cover others are left out: point at a dot, or see the table of costs."


@dataclass(frozen=True)
class Trials:
    """What a chart of learning curves shows.

    Attributes:
        where: title and protocol.
        trials: {epoch: top-1 in per cent} of each trial, by label.
        figures: what each label is ranked by.
        teacher: top-1 of the teacher in per cent; None without one.
        y_name: name of the axis of accuracies.
    """

    identity: str
    where: tuple[str, str]
    trials: dict[str, list[dict[int, float]]]
    figures: dict[str, float]
    teacher: float | None
    y_name: str


def style_numbers(table: pd.DataFrame) -> dict[str, int]:
    """Returns the number of a colour and dash for every label, for all charts of a page.

    The student alone has the first and kd the second, shared with none; then come the labels that most pairs have, so
    that neighbours differ in colour; where styles run out they are used again.
    """
    labels = Counter(_labels(table[table.role != "teacher"]))
    own = [NAMES["student"], REFERENCE]
    others = sorted(labels.keys() - own, key=lambda label: (-labels[label], label))
    shared = range(len(own), COLOURS * DASHES)
    return dict(zip(own, range(len(own)), strict=True)) | dict(zip(others, cycle(shared), strict=False))


def curve_charts(report: Report) -> Iterator[Chart | DotPlot]:
    """Yields a chart for each pair and protocol, for networks trained alone and for frozen backbones.

    A line is the mean over the trials that the table counts, its band from the least to the greatest. Runs of one epoch
    have a dot plot instead. There is no chart where no epochs are on record.
    """
    table, runs, styles = report.table, {run.path: run for run in report.runs}, style_numbers(report.table)
    part = "validation" if by_held_out(table) else "test"
    number_of = 0
    for where, rows in _groups(table):
        labels, trials = list(_labels(rows)), {}
        for label, paths in zip(labels, rows.paths, strict=True):
            found = [history for one in paths if one in runs and (history := runs[one].history(part))]
            if found:
                trials[label] = found
        if trials:
            number_of += 1
            taught = rows[rows.role == "teacher"].top1_mean.dropna()
            teacher = float(taught.iloc[0]) if len(taught) and part == "test" else None
            figures = dict(zip(labels, ranked(rows).tolist(), strict=True))
            chart = Trials(f"curves-{number_of}", where, trials, figures, teacher, AXES[part])
            one = all(len(history) == 1 for found in trials.values() for history in found)
            yield dot_plot(chart, styles) if one else _curves(chart, styles)


def cost_charts(table: pd.DataFrame) -> Iterator[Chart]:
    """Yields accuracy against seconds per epoch for the methods of each pair, a chart for each kind of hardware."""
    styles, number_of = style_numbers(table), 0
    for where, rows in _groups(table[table.role.isin(["student", "method", "teacher"])]):
        parts, mixed = costs_by_hardware(rows)
        note = f"{MIXED_HARDWARE}: {', '.join(mixed)}." if mixed else ""
        for hardware, measured in parts:
            measured = measured[pd.to_numeric(measured.seconds_per_epoch).notna()]
            if not measured.empty:
                number_of += 1
                title, place = where
                place = f"{place}, measured on {hardware}" if hardware else place
                yield _scatter(f"cost-{number_of}", (f"{title}: {COST}", place), measured, styles, note)


def _groups(table: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Yields the rows that share a chart, with its title and protocol."""
    of_pair = ~table.role.isin(["network", "probe"])
    for _, rows in table[of_pair].groupby(PAIR, sort=False):
        first = rows.iloc[0]
        yield (f"{first.teacher} → {first.student}" if first.teacher else first.student, place_of(first)), rows
    for role, what in (("network", "networks trained alone"), ("probe", "frozen backbones, new classifier")):
        for _, rows in table[table.role == role].groupby(GROUP, sort=False):
            yield (what, place_of(rows.iloc[0])), rows


def place_of(row: pd.Series) -> str:
    """Returns data set, group and protocol of a row of the tidy table."""
    return f"{row.dataset}{f', {row.group}' if row.group else ''}: {row.protocol} [{row.protocol_id}]"


def _labels(rows: pd.DataFrame) -> np.ndarray:
    """Returns the names of rows in a chart."""
    return np.array([label_of(row) for row in rows.itertuples()], dtype=object)


def label_of(row: Any) -> str:
    """Returns the name of a row of the tidy table in a chart."""
    texts = {"network": "{0.student} {0.method}", "probe": "{0.student}, {0.method}", "student": NAMES["student"]}
    return texts.get(str(row.role), "{0.method}").format(row).strip()


def _curves(chart: Trials, styles: dict[str, int]) -> Chart:
    curves = {label: curve_of(label, found, "range") for label, found in chart.trials.items()}
    epochs = [epoch for curve in curves.values() for epoch in curve.epochs.tolist()]
    figures = [value for curve in curves.values() for value in (*curve.low.tolist(), *curve.high.tolist())]
    level, level_name, note = teacher_level(chart.teacher, figures)
    x = horizontal(epochs, whole=True, margin=0.0)
    y = vertical([*figures, *([] if level is None else [level])])
    shown = leading_labels(list(curves), [chart.figures[label] for label in curves], REFERENCES)
    lines = []
    for label, curve in curves.items():
        at, mean, low, high = (part.tolist() for part in (curve.epochs, curve.mean, curve.low, curve.high))
        xs, ys, trials = [x(e) for e in at], [y(m) for m in mean], int(curve.n.max())
        around = path([*xs, *xs[::-1]], [*map(y, high), *map(y, low[::-1])]) if trials > 1 and len(at) > 1 else ""
        dots = ((xs[0], ys[0]),) if len(at) == 1 else ()
        tooltip = f"{label} ({counted(trials, 'trial')}): {number(mean[-1])} after epoch {at[-1]}"
        colour, dash = styles[label] % COLOURS, styles[label] // COLOURS % DASHES
        lines.append(Line(label, colour, dash, path(xs, ys), around, dots, tooltip, label in shown))
    ending = "; ".join(line.tooltip for line in lines)
    notes = ["Lines are means over trials, bands from the least to the greatest."]
    notes = notes if any(curve.n.max() > 1 for curve in curves.values()) else []
    notes += [note] if note else []
    notes += [SHOWN_FIRST] if len(shown) < len(lines) else []
    return Chart(
        chart.identity, *chart.where, f"{chart.y_name.capitalize()} after each epoch. {ending}.", "epoch", chart.y_name,
        x.ticks(), y.ticks(), tuple(lines), level=None if level is None else y(level), level_name=level_name,
        note=" ".join(notes),
    )  # fmt: skip


def dot_plot(chart: Trials, styles: dict[str, int]) -> DotPlot:
    """Returns the figures of runs of one epoch, a point for each trial, the best mean first."""
    values = {label: [next(iter(history.values())) for history in found] for label, found in chart.trials.items()}
    figures = [value for found in values.values() for value in found]
    level, level_name, note = teacher_level(chart.teacher, figures)
    x = horizontal([*figures, *([] if level is None else [level])], left=NAMES_WIDTH)
    rows: list[DotRow] = []
    for label, found in sorted(values.items(), key=lambda item: -float(np.mean(item[1]))):
        mean = float(np.mean(found))
        tooltip = f"{label} ({counted(len(found), 'trial')}): {number(mean)}"
        y = TOP + (len(rows) + 0.5) * ROW_HEIGHT
        points = tuple(map(x, found))
        rows.append(DotRow(_fitted(label), styles[label] % COLOURS, y, points, x(mean), tooltip))
    ending = "; ".join(row.tooltip for row in rows)
    many = any(len(found) > 1 for found in values.values())
    notes = ["A point is a trial, a tick the mean over several."] * many + [note] * bool(note)
    return DotPlot(
        chart.identity, *chart.where, f"{chart.y_name.capitalize()} after one epoch. {ending}.", chart.y_name,
        x.ticks(), tuple(rows), TOP + len(rows) * ROW_HEIGHT + BOTTOM, level=None if level is None else x(level),
        level_name=level_name, note=" ".join(notes),
    )  # fmt: skip


def _fitted(label: str) -> str:
    """Returns a label that fits beside a dot plot."""
    most = int((NAMES_WIDTH - 10) / (0.85 * LETTER))
    return label if len(label) <= most else f"{label[: most - 1]}…"


def teacher_level(top1: float | None, figures: list[float]) -> tuple[float | None, str, str]:
    """Returns where the teacher's line is and its name, or a note in its place if it would squeeze the figures."""
    if top1 is None:
        return None, "", ""
    if fits_beside(top1, min(figures), max(figures)):
        return top1, f"teacher {number(top1)}", ""
    return None, "", f"The teacher, at {number(top1)}, is outside the chart."


def _scatter(identity: str, where: tuple[str, str], rows: pd.DataFrame, styles: dict[str, int], note: str) -> Chart:
    costs, figures, labels = rows.seconds_per_epoch.astype(float).tolist(), rows.top1_mean.tolist(), list(_labels(rows))
    deviations = rows.top1_std.fillna(0.0).tolist()
    ends = [figure + side * std for figure, std in zip(figures, deviations, strict=True) for side in (-1, 1)]
    x, y = horizontal(costs, margin=0.12), vertical(ends)
    points = [(x(cost), y(figure), label) for cost, figure, label in zip(costs, figures, labels, strict=True)]
    places = place_names(points)
    dots = []
    for (at_x, at_y, label), of_name, cost, figure, std in zip(points, places, costs, figures, deviations, strict=True):
        around = f" ± {number(std)}" if std else ""
        tooltip = f"{label}: {number(figure)}{around} % at {number(cost, 2 if cost < 10 else 0)} {COST}"
        x_label, y_label, anchor = of_name or (None, 0.0, "start")
        span = (y(figure - std), y(figure + std)) if std else None
        dots.append(Dot(label, styles[label] % COLOURS, at_x, at_y, x_label, y_label, anchor, tooltip, span))
    description = f"Test accuracy against {COST}. {'; '.join(dot.tooltip for dot in dots)}."
    notes = [HIDDEN_NAMES] * any(dot.x_label is None for dot in dots)
    notes += ["Bars are ± one standard deviation over trials."] * any(dot.span is not None for dot in dots)
    return Chart(
        identity, *where, description, COST, AXES["test"], x.ticks(), y.ticks(), dots=tuple(dots),
        note=" ".join([*notes, *([note] if note else [])]),
    )  # fmt: skip
