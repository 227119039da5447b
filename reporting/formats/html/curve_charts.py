"""Charts of a report's runs: test accuracy after each epoch, and accuracy against what it cost."""

from collections import Counter
from collections.abc import Iterator
from itertools import cycle

import numpy as np
import pandas as pd

from reporting.formats.html.chart import COLOURS, DASHES, Chart, Dot, Line, horizontal, path, place_names, vertical
from reporting.records.epoch_curves import Curve, curve_of
from reporting.tables.columns import GROUP, PAIR, REFERENCE
from reporting.tables.numbers import number
from reporting.tables.report import Report
from reporting.tables.wording import NAMES

COSTS = {"seconds_per_epoch": "seconds per epoch", "images_per_second": "images per second"}
HIDDEN_NAMES = "Names that would cover others are left out: point at a dot, or see the table of costs."


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


def curve_charts(report: Report) -> Iterator[Chart]:
    """Yields a chart for each pair and protocol, for networks trained alone and for frozen backbones.

    A line is the mean over the trials that the table counts, its band from the least to the greatest. There is no chart
    where no epochs are on record.
    """
    table, runs, styles = report.table, {run.path: run for run in report.runs}, style_numbers(report.table)
    number_of = 0
    for where, rows in _groups(table):
        curves = {}
        for label, paths in zip(_labels(rows), rows.paths, strict=True):
            found = [history for one in paths if one in runs and (history := runs[one].history())]
            if found:
                curves[label] = curve_of(label, found, "range")
        if curves:
            number_of += 1
            taught = rows[rows.role == "teacher"].top1_mean
            teacher = float(taught.iloc[0]) if len(taught) else None
            yield _curves(f"curves-{number_of}", where, curves, teacher, styles)


def cost_charts(table: pd.DataFrame) -> Iterator[Chart]:
    """Yields accuracy against seconds per epoch and against images per second, for the methods of each pair."""
    styles, number_of = style_numbers(table), 0
    for where, rows in _groups(table[table.role.isin(["student", "method", "teacher"])]):
        rows = rows[rows.role != "teacher"]
        for column, name in COSTS.items():
            measured = rows[pd.to_numeric(rows[column]).notna()]
            if not measured.empty:
                number_of += 1
                yield _scatter(f"cost-{number_of}", where, measured, column, name, styles)


def _groups(table: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Yields the rows that share a chart, with its title and protocol."""
    of_pair = ~table.role.isin(["network", "probe"])
    for _, rows in table[of_pair].groupby(PAIR, sort=False):
        first = rows.iloc[0]
        yield (f"{first.teacher} → {first.student}" if first.teacher else first.student, _place(first)), rows
    for role, what in (("network", "networks trained alone"), ("probe", "frozen backbones, new classifier")):
        for _, rows in table[table.role == role].groupby(GROUP, sort=False):
            yield (what, _place(rows.iloc[0])), rows


def _place(row: pd.Series) -> str:
    return f"{row.dataset}{f', {row.group}' if row.group else ''}: {row.protocol} [{row.protocol_id}]"


def _labels(rows: pd.DataFrame) -> np.ndarray:
    """Returns the names of rows in a chart."""
    texts = {"network": "{0.student} {0.method}", "probe": "{0.student}, {0.method}", "student": NAMES["student"]}
    names = [texts.get(str(row.role), "{0.method}").format(row).strip() for row in rows.itertuples()]
    return np.array(names, dtype=object)


def _curves(
    identity: str,
    where: tuple[str, str],
    curves: dict[str, Curve],
    teacher: float | None,
    styles: dict,
) -> Chart:
    epochs = [epoch for curve in curves.values() for epoch in curve.epochs.tolist()]
    figures = [value for curve in curves.values() for value in (*curve.low.tolist(), *curve.high.tolist())]
    x = horizontal(epochs, whole=True, margin=0.0)
    y = vertical([*figures, *([] if teacher is None else [teacher])])
    lines = []
    for label, curve in curves.items():
        at, mean, low, high = (part.tolist() for part in (curve.epochs, curve.mean, curve.low, curve.high))
        xs, ys, trials = [x(e) for e in at], [y(m) for m in mean], int(curve.n.max())
        around = path([*xs, *xs[::-1]], [*map(y, high), *map(y, low[::-1])]) if trials > 1 and len(at) > 1 else ""
        dots = ((xs[0], ys[0]),) if len(at) == 1 else ()
        tooltip = f"{label} ({trials} trial{'s' if trials > 1 else ''}): {number(mean[-1])} after epoch {at[-1]}"
        lines.append(
            Line(label, styles[label] % COLOURS, styles[label] // COLOURS % DASHES, path(xs, ys), around, dots, tooltip)
        )
    ending = "; ".join(line.tooltip for line in lines)
    level = None if teacher is None else y(teacher)
    level_name = "" if teacher is None else f"teacher {number(teacher)}"
    many = any(curve.n.max() > 1 for curve in curves.values())
    note = "Lines are means over trials, bands from the least to the greatest." if many else ""
    return Chart(
        identity, *where, f"Test accuracy after each epoch. {ending}.", "epoch", "test top-1 (%)", x.ticks(), y.ticks(),
        tuple(lines), level=level, level_name=level_name, note=note,
    )  # fmt: skip


def _scatter(identity: str, where: tuple[str, str], rows: pd.DataFrame, column: str, name: str, styles: dict) -> Chart:
    costs, figures, labels = rows[column].astype(float).tolist(), rows.top1_mean.tolist(), list(_labels(rows))
    x, y = horizontal(costs, margin=0.12), vertical(figures)
    points = [(x(cost), y(figure), label) for cost, figure, label in zip(costs, figures, labels, strict=True)]
    dots = []
    for (at_x, at_y, label), of_name, cost, figure in zip(points, place_names(points), costs, figures, strict=True):
        tooltip = f"{label}: {number(figure)} % at {number(cost, 2 if cost < 10 else 0)} {name}"
        x_label, y_label, anchor = of_name or (None, 0.0, "start")
        dots.append(Dot(label, styles[label] % COLOURS, at_x, at_y, x_label, y_label, anchor, tooltip))
    description = f"Test accuracy against {name}. {'; '.join(dot.tooltip for dot in dots)}."
    note = HIDDEN_NAMES if any(dot.x_label is None for dot in dots) else ""
    title, place = where
    return Chart(
        identity, f"{title}: {name}", place, description, name, "test top-1 (%)", x.ticks(), y.ticks(),
        dots=tuple(dots), note=note,
    )  # fmt: skip
