"""Charts of accuracy against what a student costs where it is used, with the Pareto front and the teacher."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reporting.formats.html.chart import (
    COLOURS,
    Chart,
    Dot,
    Line,
    horizontal,
    level_name_box,
    logarithmic,
    path,
    place_names,
    vertical,
)
from reporting.formats.html.curve_charts import AXES, HIDDEN_NAMES, label_of, place_of, style_numbers, teacher_level
from reporting.tables.columns import GROUP
from reporting.tables.numbers import number
from reporting.tables.pareto import on_front
from reporting.tables.ranking import by_held_out, ranked
from reporting.tables.student_costs import COSTS, StudentCost, latency_places

FRONT = "Pareto front"
ABOUT_FRONT = "The dashed line is the Pareto front: no student is above it or to its left."
WIDE = 8  # times the least cost, from which on the axis of costs is logarithmic


@dataclass(frozen=True)
class Students:
    """What a chart of students shows.

    Attributes:
        where: title and protocol.
        rows: of the tidy table, with the accuracy as `figure`, its deviation as `deviation`, and `cost`; all of them
            known.
        teacher: name, accuracy and cost of the teacher; NaN for what is not known.
        y_name: name of the axis of accuracies.
    """

    where: tuple[str, str]
    cost: StudentCost
    rows: pd.DataFrame
    teacher: tuple[str, float, float]
    y_name: str


def student_cost_charts(table: pd.DataFrame) -> Iterator[Chart]:
    """Yields a chart for each data set, protocol, teacher and cost, of latency one for each kind of hardware.

    There is none where the cost is not on record, or all networks to be shown have the same.
    """
    styles, charts = style_numbers(table), 0
    for students in _students(table):
        chart = _chart(students, styles, f"size-{charts + 1}")
        if chart is not None:
            charts += 1
            yield chart


def _students(table: pd.DataFrame) -> Iterator[Students]:
    """Yields what each chart would show."""
    held_out = by_held_out(table)
    part = "validation" if held_out else "test"
    for (*_, teacher), rows in table[table.role.isin(["student", "method", "teacher"])].groupby(
        [*GROUP, "teacher"], sort=False
    ):
        rows = rows.assign(figure=ranked(rows), deviation=rows.validation_std if held_out else rows.top1_std)
        students, teachers = rows[rows.role != "teacher"], rows[rows.role == "teacher"]
        title = f"students of {teacher}" if teacher else "students without a teacher"
        top1 = float("nan") if held_out or teachers.empty else float(teachers.top1_mean.iloc[0])
        for name, cost in COSTS.items():
            places = latency_places(students) if name == "latency" else {"": students[cost.column].notna()}
            for hardware, of_place in places.items():
                shown = students[of_place & students.figure.notna()]
                if shown.empty:
                    continue
                shown = shown.assign(cost=cost.of(shown) / cost.divisor)
                of_teacher = 1.0 if name == "latency" else _shared(teachers[cost.column]) / cost.divisor
                place = place_of(rows.iloc[0]) + (f", measured on {hardware}" if hardware else "")
                where = f"{title}: {cost.noun}", place
                yield Students(where, cost, shown, (str(teacher), top1, of_teacher), AXES[part])


def _shared(values: pd.Series) -> float:
    """Returns the one value that is on record; NaN where there is none, or several."""
    known = values.dropna().unique()
    return float(known[0]) if len(known) == 1 else float("nan")


def _chart(students: Students, styles: dict[str, int], identity: str) -> Chart | None:
    """Returns the chart; None where all networks in it have the same cost."""
    front = on_front(students.rows.figure.tolist(), students.rows.cost.tolist())
    rows = students.rows.assign(front=front).sort_values(
        ["front", "figure"], ascending=False
    )  # the front is named first
    figures, costs, deviations = (rows[name].tolist() for name in ("figure", "cost", "deviation"))
    teacher, top1, of_teacher = students.teacher
    ends = [f + side * s for f, s in zip(figures, np.nan_to_num(deviations), strict=True) for side in (-1, 1)]
    level, level_name, note = teacher_level(None if np.isnan(top1) else top1, ends)
    with_teacher = level is not None and not np.isnan(of_teacher)
    on_axis = [*costs, of_teacher] if with_teacher else costs
    if len(set(on_axis)) < 2:
        return None
    wide = min(on_axis) > 0 and max(on_axis) >= WIDE * min(on_axis)
    x = logarithmic(on_axis) if wide else horizontal(on_axis, margin=0.12)
    y = vertical([*ends, *([] if level is None else [level])])
    names = [f"{row.student} {label_of(row)}" for row in rows.itertuples()]
    points = [(x(cost), y(figure), name) for cost, figure, name in zip(costs, figures, names, strict=True)]
    if with_teacher:
        points.append((x(of_teacher), y(top1), teacher))
    colours = [styles[label_of(row)] % COLOURS for row in rows.itertuples()]
    reserved = [] if level is None else [level_name_box(y(level), level_name)]
    dots = []
    for i, ((at_x, at_y, name), of_name) in enumerate(zip(points, place_names(points, reserved), strict=True)):
        x_label, y_label, anchor = of_name or (None, 0.0, "start")
        taught = i == len(costs)
        std = 0.0 if taught else float(np.nan_to_num(deviations[i]))
        figure, cost = (top1, of_teacher) if taught else (figures[i], costs[i])
        around = f" ± {number(std)}" if std else ""
        priced = students.cost.words(cost * students.cost.divisor)
        tooltip = f"{'teacher ' * taught}{name}: {number(figure)}{around} % at {priced}"
        span = (y(figure - std), y(figure + std)) if std else None
        dots.append(Dot(name, 0 if taught else colours[i], at_x, at_y, x_label, y_label, anchor, tooltip, span))
    stairs = _stairs([points[i][:2] for i in range(len(costs)) if rows.front.iloc[i]])
    members = ", ".join(sorted(name for name, member in zip(names, rows.front, strict=True) if member))
    line = Line(FRONT, 0, 1, stairs, "", (), f"{FRONT}: {members}")
    notes = [ABOUT_FRONT, *[note] * bool(note)]
    notes += ["The axis of costs is logarithmic."] * wide
    notes += [HIDDEN_NAMES] * any(dot.x_label is None for dot in dots)
    notes += ["Bars are ± one standard deviation over trials."] * any(dot.span is not None for dot in dots)
    told = "; ".join(dot.tooltip for dot in dots)
    return Chart(
        identity, *students.where,
        f"{students.y_name.capitalize()} against {students.cost.noun}. {told}. {line.tooltip}.", students.cost.axis,
        students.y_name, x.ticks(), y.ticks(), lines=(line,), dots=tuple(dots),
        level=None if level is None else y(level), level_name=level_name, note=" ".join(notes),
    )  # fmt: skip


def _stairs(points: Sequence[tuple[float, float]]) -> str:
    """Returns the polyline through the points of a front, which goes right and then up from each to the next."""
    corners: list[tuple[float, float]] = []
    for at_x, at_y in sorted(set(points), key=lambda point: (point[0], -point[1])):
        corners += [(at_x, corners[-1][1])] if corners else []
        corners.append((at_x, at_y))
    return path([at_x for at_x, _ in corners], [at_y for _, at_y in corners])
