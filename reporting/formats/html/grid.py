"""Tables as the page shows them: every cell with its text and with what it is sorted by."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from reporting.formats.terminal import TEXTS
from reporting.tables.layout import Shown

LEADING_NUMBER = re.compile(r"(<\s*)?([+-]?\d[\d,]*(?:\.\d+)?)")
JUST_BELOW = 1e-9  # "< 0.001" sorts before "0.001"


@dataclass(frozen=True)
class Cell:
    """Attributes:
    key: what a column of numbers is sorted by, as a decimal; "" is missing and comes last.
    mark: BEST, SECOND or "".
    links: (text, address) in place of the text.
    """

    text: str
    key: str = ""
    mark: str = ""
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Grid:
    """Attributes:
    columns: the name of each column, and whether it holds numbers.
    """

    caption: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def grid_of_shown(shown: Shown) -> Grid:
    """A table of `compare.py`; its cells are text, and those of a column of numbers begin with their figure."""
    columns = tuple((name, name not in TEXTS) for name in shown.cells)
    rows = [
        tuple(
            Cell(text, number_key(text) if numeric else "", shown.marks.get((row, column), ""))
            for column, (text, (_, numeric)) in enumerate(zip(texts, columns, strict=True))
        )
        for row, texts in enumerate(shown.cells.to_numpy())
    ]
    return Grid(shown.title, columns, tuple(rows), shown.note)


def grid_of_values(
    caption: str, columns: Mapping[str, str | None], rows: Iterable[Sequence[object]], note: str = ""
) -> Grid:
    """A table of values.

    Args:
        columns: the format of each column's numbers (",.2f"), None for text and for cells that are made already.
        rows: a value for each column; None and NaN leave a cell empty.
    """
    made = [tuple(map(_cell, values, columns.values())) for values in rows]
    return Grid(caption, tuple((name, form is not None) for name, form in columns.items()), tuple(made), note)


def number_key(text: str) -> str:
    """The number that `text` begins with: of "1,140,000", "+2.00 †", "31.31 ± – (1)", "< 0.001"; else ""."""
    found = LEADING_NUMBER.match(text)
    if found is None:
        return ""
    below, digits = found.groups()
    return repr(float(digits.replace(",", "")) - (JUST_BELOW if below else 0))


def _cell(value: object, form: str | None) -> Cell:
    if isinstance(value, Cell):
        return value
    if pd.isna(value):
        return Cell("")
    return Cell(str(value)) if form is None else Cell(format(value, form), repr(float(value)))
