"""Accuracy and cost of all students of a teacher, with those that are worth their cost."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from common.errors import RequestError
from reporting.tables.columns import GROUP
from reporting.tables.cost_names import DEFAULT_COST
from reporting.tables.numbers import number
from reporting.tables.pair_tables import figure_cells
from reporting.tables.pareto import on_front, smallest_within
from reporting.tables.ranking import ranked
from reporting.tables.student_costs import COSTS, StudentCost, cost_columns, latency_places
from reporting.tables.text_table import TextTable, without_empty_columns
from reporting.tables.wording import NAMES, data_title, figure_words, short_name

FRONT, MARK = "front", "*"


@dataclass(frozen=True)
class CostChoice:
    """What `--pareto` and `--within` ask for.

    Attributes:
        pareto: name of the cost by which the Pareto front is marked; None for no marks.
        within: how many points below its teacher a student may be; None for no search.
        within_cost: name of the cost of which the search takes the least.
    """

    pareto: str | None = None
    within: float | None = None
    within_cost: str = DEFAULT_COST

    @property
    def costs(self) -> list[str]:
        """The costs that are asked for, the one that orders tables first."""
        return [*filter(None, [self.pareto]), *([] if self.within is None else [self.within_cost])]


def check_costs(table: pd.DataFrame, choice: CostChoice) -> None:
    """Raises RequestError where no student has a cost that is asked for, or there is no teacher to be close to.

    There is nothing to refuse in an empty table, of runs that are not finished yet.
    """
    if table.empty:
        return
    students = table[table.role.isin(["student", "method"])]
    if students.empty:
        raise RequestError("--pareto and --within compare students, and no run here is of one; leave them out")
    for flag, name in (("--pareto", choice.pareto), ("--within", choice.within_cost)):
        if name in choice.costs and students[COSTS[name].column].isna().all():
            raise RequestError(f"{flag}: no run of a student has {name} on record; {COSTS[name].hint}")
    if choice.within is not None and table[table.role == "teacher"].top1_mean.isna().all():
        raise RequestError(
            "--within compares students with their teacher, and no run here has one of known accuracy; leave it out"
        )


def front_of(students: pd.DataFrame, name: str) -> np.ndarray:
    """Returns whether each row is on the Pareto front of its data set, protocol and teacher.

    Accuracy is what the tables are ordered by. Latencies of different hardware do not compare: each has its front.

    Args:
        students: rows of the tidy table.
        name: of the cost.
    """
    front = pd.Series(False, index=students.index)
    for _, rows in students.groupby([*GROUP, "teacher"], sort=False):
        costs = COSTS[name].of(rows)
        places = latency_places(rows).values() if name == "latency" else [costs.notna()]
        for of_place in places:
            front[rows.index] |= on_front(ranked(rows).tolist(), costs.where(of_place).tolist())
    return front.to_numpy()


def with_front(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Returns the tidy table with a column such as `pareto_macs`: true, false, or empty for what is no student."""
    students = table[table.role.isin(["student", "method"])]
    column = pd.Series(pd.NA, index=table.index, dtype="boolean")
    column[students.index] = front_of(students, name)
    return table.assign(**{f"pareto_{name}": column})


def accuracy_cost_tables(heading: str, rows: pd.DataFrame, choice: CostChoice) -> Iterator[TextTable]:
    """Yields a table for each teacher, of all its students by all methods, the cheapest first.

    Args:
        rows: rows of one protocol in the tidy table.
    """
    for teacher, of_teacher in rows.groupby("teacher", sort=False):
        if of_teacher.role.isin(["student", "method"]).any():
            yield _table(heading, str(teacher), of_teacher, choice)


def _table(heading: str, teacher: str, rows: pd.DataFrame, choice: CostChoice) -> TextTable:
    first = COSTS[choice.costs[0]]
    students = rows[rows.role.isin(["student", "method"])].assign(ranked=ranked)
    students = students.sort_values([first.column, "ranked", "student", "method"], ascending=[True, False, True, True])
    teachers = rows[rows.role == "teacher"].drop_duplicates(["top1_mean", "n"])
    shown = pd.concat([teachers, students])
    words = figure_words(shown)
    cells = pd.DataFrame({"model": np.where(shown.role == "teacher", shown.teacher, shown.student)})
    cells["method"] = [NAMES.get(role, method) for role, method in zip(shown.role, shown.method, strict=True)]
    cells[words.column] = figure_cells(shown, words)
    if words.figure == "validation":
        cells["test top-1"] = [number(figure) for figure in shown.top1_mean]
    columns, where = cost_columns(shown)
    for name, texts in columns.items():
        cells[name] = texts
    if choice.pareto:
        front = front_of(students, choice.pareto)
        cells[FRONT] = [""] * len(teachers) + [MARK * bool(marked) for marked in front]
    notes = [
        *_about_front(choice),
        *_unknown(students, choice),
        *within_sentences(rows, choice),
        *filter(None, [where]),
    ]
    title = f"accuracy and cost of all students{f' of {teacher}' if teacher else ''}"
    return TextTable(heading, title, without_empty_columns(cells), note=" ".join(notes))


def _about_front(choice: CostChoice) -> Iterator[str]:
    if choice.pareto:
        what = f"accuracy and {COSTS[choice.pareto].noun}"
        yield f"{MARK} marks the Pareto front of {what}: no other student here is as good in both and better in one."


def _unknown(students: pd.DataFrame, choice: CostChoice) -> Iterator[str]:
    """A sentence for each cost on the students that have none on record."""
    for name in dict.fromkeys(choice.costs):
        missing = students[students[COSTS[name].column].isna()]
        if len(missing):
            names = ", ".join(short_name(f"{row.student} {_by(row)}") for row in missing.itertuples())
            yield f"No {COSTS[name].noun} on record, and so not compared: {names}."


def within_sentences(rows: pd.DataFrame, choice: CostChoice) -> Iterator[str]:
    """Yields which student is the smallest that is close to the teacher, or that none is and which one is closest.

    Accuracy is the test accuracy of the epoch that the table shows: teachers have no other.

    Args:
        rows: of one data set, protocol and teacher in the tidy table.
    """
    if choice.within is None or not (rows.role == "teacher").any():
        return
    cost = COSTS[choice.within_cost]
    smallest, closest = smallest_within(beside_teachers(rows, choice.within_cost), choice.within)
    points = f"{choice.within:g} point{'s' * (choice.within != 1)}"
    if smallest is not None:
        teacher = f"the teacher ({number(smallest.teacher_figure)} %)"
        yield f"Smallest within {points} of {teacher} by {cost.noun}: {_described(smallest, cost)}."
    elif closest is not None:
        teacher = f"the teacher ({number(closest.teacher_figure)} %)"
        yield (
            f"None is within {points} of {teacher}; the closest, {number(closest.below)} points below it, is "
            f"{_described(closest, cost)}."
        )


def beside_teachers(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Returns the students with test accuracy, that of their teacher, and a cost, as `smallest_within` takes them.

    Args:
        rows: of one data set, protocol and teacher in the tidy table.
        name: of the cost.
    """
    of_teacher = rows[rows.role == "teacher"].set_index("student").top1_mean
    students = rows[rows.role.isin(["student", "method"])]
    teachers = students.student.map(of_teacher)
    return students.assign(figure=students.top1_mean, teacher_figure=teachers, cost=COSTS[name].of(students))


def within_lines(table: pd.DataFrame, choice: CostChoice) -> Iterator[str]:
    """Yields `within_sentences` of all data sets, protocols and teachers of the tidy table, each with these names."""
    for place, rows in table.groupby([*GROUP, "teacher"], sort=False):
        for sentence in within_sentences(rows, choice):
            yield f"{data_title(place[:4])}: {rows.protocol.iloc[0]} [{place[4]}], {place[5]}: {sentence}"


def _by(row: Any) -> str:
    return "alone" if row.role == "student" else f"by {row.method}"


def _described(row: Any, cost: StudentCost) -> str:
    return f"{row.student} {_by(row)}, {cost.words(row.cost)}, {number(row.figure)} %"
