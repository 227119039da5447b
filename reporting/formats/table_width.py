"""Fits tables to a page: hides columns that matter less, then breaks what is left into several tables."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from reporting.tables.text_table import TextTable

GAP = 3  # characters between columns


def fit(table: TextTable, width: int) -> tuple[TextTable, list[str]]:
    """Returns the table without as many optional columns as it takes to fit, and the names of these columns.

    Args:
        width: of the page, in characters.
    """
    names, hidden = table.names, []
    for name in table.optional:
        if name in names and needed_width(table.cells[names], width) > width:
            names.remove(name)
            hidden.append(name)
    return table.with_columns([table.names.index(name) for name in names]), hidden


def split_columns(table: TextTable, width: int) -> Iterator[TextTable]:
    """Yields tables with the first column and as many others as fit in `width` characters, at least one."""
    part = [0]
    for column in range(1, table.cells.shape[1]):
        if len(part) > 1 and needed_width(table.cells.iloc[:, [*part, column]], width) > width:
            yield table.with_columns(part)
            part = [0]
        part.append(column)
    yield table.with_columns(part)


def split_rows(table: TextTable, rows: int) -> Iterator[TextTable]:
    """Yields tables of about equally many rows, at most `rows`; all but the first are titled "(continued)"."""
    places = range(len(table.cells))
    for number, part in enumerate(np.array_split(places, -(-len(places) // rows) or 1)):
        yield replace(table.with_rows(part.tolist()), title=table.title + " (continued)" * (number > 0))


def needed_width(cells: pd.DataFrame, width: int) -> int:
    """Returns the width of a table in characters.

    A first column of long names counts as half of `width`, for names can be folded.
    """
    first, *others = (max(map(len, [*head_lines(str(name)), *cells[name]])) + GAP for name in cells)
    return min(first, width // 2) + sum(others)


def head_lines(name: str) -> list[str]:
    """Returns the lines of a column's head: a pair takes two."""
    teacher, arrow, student = name.partition(" → ")
    return [f"{teacher} →", student] if arrow else [name]
