"""Tables that are larger than the page: leave out columns that matter less, then break what is left into several."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from reporting.tables.layout import Shown

GAP = 3  # characters between columns


def fit(shown: Shown, width: int) -> tuple[Shown, list[str]]:
    """The table without as many of its optional columns as it takes to be `width` characters wide, and their names."""
    names, dropped = list(shown.cells), []
    for name in shown.optional:
        if name in names and needed(shown.cells[names], width) > width:
            names.remove(name)
            dropped.append(name)
    return _only(shown, [list(shown.cells).index(name) for name in names]), dropped


def split(shown: Shown, width: int) -> Iterator[Shown]:
    """Tables with the first column and as many others as there is room for, at least one."""
    part = [0]
    for column in range(1, shown.cells.shape[1]):
        if len(part) > 1 and needed(shown.cells.iloc[:, [*part, column]], width) > width:
            yield _only(shown, part)
            part = [0]
        part.append(column)
    yield _only(shown, part)


def pages(shown: Shown, rows: int) -> Iterator[Shown]:
    """Tables of about equally many rows, at most `rows`; all but the first are titled "(continued)"."""
    places = range(len(shown.cells))
    for number, part in enumerate(np.array_split(places, -(-len(places) // rows) or 1)):
        yield replace(shown.only(part.tolist()), title=shown.title + " (continued)" * (number > 0))


def needed(cells: pd.DataFrame, width: int) -> int:
    """Width in characters. A first column of long names counts as half of `width`, for names can be folded."""
    first, *others = (max(map(len, [*stacked(name), *cells[name]])) + GAP for name in cells)
    return min(first, width // 2) + sum(others)


def stacked(name: str) -> list[str]:
    """The lines of a column's head: a pair takes two."""
    teacher, arrow, student = name.partition(" → ")
    return [f"{teacher} →", student] if arrow else [name]


def _only(shown: Shown, columns: Sequence[int]) -> Shown:
    marks = {(row, columns.index(c)): mark for (row, c), mark in shown.marks.items() if c in columns}
    return replace(shown, cells=shown.cells.iloc[:, list(columns)], marks=marks)
