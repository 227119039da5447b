"""Tables of the page: every cell with its text and its sort key."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reporting.tables.numbers import ALIGNED, MINUS, formatted, stand_in
from reporting.tables.text_table import WORDS, TextTable

LEADING_NUMBER = re.compile(rf"(<\s*)?([+{MINUS}-]?\d[\d,]*(?:\.\d+)?)")
JUST_BELOW = 1e-9  # "< 0.001" sorts before "0.001"


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        key: sort key of a column of numbers, as a decimal; "" is missing and comes last.
        mark: BEST, SECOND or "".
        links: (text, address) in place of the text.
    """

    text: str
    key: str = ""
    mark: str = ""
    links: tuple[tuple[str, str], ...] = ()

    @property
    def parts(self) -> list[tuple[str, str]]:
        """The text in parts, each with what stands unseen before it so that figures are aligned."""
        first, *rest = ALIGNED.split(self.text)
        return [("", first), *((stand_in(gap), f" {text}") for gap, text in zip(rest[::2], rest[1::2], strict=True))]


@dataclass(frozen=True)
class Grid:
    """A table; `columns` are names, each with whether the column holds numbers. A folded one breaks long texts."""

    caption: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    folded: bool = False


def grid_of_texts(table: TextTable) -> Grid:
    """Returns the grid of a table of texts, where those of a column of numbers begin with their figure."""
    columns = tuple((name, name not in WORDS) for name in table.names)
    rows = [
        tuple(
            Cell(text, number_key(text) if numeric else "", table.marks.get((row, column), ""))
            for column, (text, (_, numeric)) in enumerate(zip(texts, columns, strict=True))
        )
        for row, texts in enumerate(table.cells.to_numpy())
    ]
    return Grid(table.title, columns, tuple(rows), table.note)


def grid_of_values(
    caption: str, columns: Mapping[str, str | None], rows: Iterable[Sequence[Any]], note: str = ""
) -> Grid:
    """Returns the grid of a table of values.

    Args:
        columns: the format of each column's numbers (",.2f"), None for text and for cells that are made already.
        rows: a value for each column; None and NaN leave a cell empty.
    """
    made = [tuple(map(_cell, values, columns.values())) for values in rows]
    return Grid(caption, tuple((name, form is not None) for name, form in columns.items()), tuple(made), note)


def number_key(text: str) -> str:
    """Returns the number that a text such as "1,140,000", "+2.00 †" or "< 0.001" begins with, else ""."""
    found = LEADING_NUMBER.match(text)
    if found is None:
        return ""
    below, digits = found.groups()
    return repr(float(digits.replace(",", "").replace(MINUS, "-")) - (JUST_BELOW if below else 0))


def _cell(value: Any, form: str | None) -> Cell:
    if isinstance(value, Cell):
        return value
    if pd.isna(value):
        return Cell("")
    return Cell(str(value)) if form is None else Cell(formatted(value, form), repr(float(value)))
