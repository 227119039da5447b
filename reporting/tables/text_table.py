"""A table of texts with marked cells, as every printed format shows it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from reporting.tables.statistics import as_printed

BEST, SECOND = "best", "second"
# Columns of words, which are aligned to the left; all others hold numbers.
WORDS = ("method", "model", "trained by", "protocol", "differs", "epoch", "terms")


@dataclass(frozen=True)
class TextTable:
    """One table on the page.

    Attributes:
        heading: shared by neighbouring tables.
        cells: texts; the first column names the row.
        marks: BEST or SECOND by (row, column), both positions.
        optional: columns that a narrow page hides, the first one first.
        note: a sentence below the table.
    """

    heading: str
    title: str
    cells: pd.DataFrame
    marks: Mapping[tuple[int, int], str] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    note: str = ""

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return list(map(str, self.cells))

    def with_rows(self, rows: Sequence[int]) -> "TextTable":
        """Returns the table with the rows at these positions, and the marks that they have in this one."""
        place = {row: new for new, row in enumerate(rows)}
        marks = {(place[row], column): mark for (row, column), mark in self.marks.items() if row in place}
        return replace(self, cells=self.cells.iloc[list(rows)].reset_index(drop=True), marks=marks)

    def with_columns(self, columns: Sequence[int]) -> "TextTable":
        """Returns the table with the columns at these positions, and their marks."""
        place = {column: new for new, column in enumerate(columns)}
        marks = {(row, place[column]): mark for (row, column), mark in self.marks.items() if column in place}
        return replace(self, cells=self.cells.iloc[:, list(columns)], marks=marks)

    def shortened(self, rows: Sequence[int], top: int | None) -> "TextTable":
        """Returns the table with these rows only and a note on how many `--top` hides. Marks are the whole table's."""
        hidden = len(self.cells) - len(rows)
        if not hidden:
            return self
        note = f"{hidden} more without --top {top}."
        return replace(self.with_rows(rows), note=f"{note} {self.note}".strip())

    def styled(self, escape: Callable[[str], str], styles: Mapping[str, str]) -> pd.DataFrame:
        """Returns the cells escaped for a format, the marked ones in its style.

        Args:
            styles: a template for BEST and for SECOND, such as "**{}**".
        """
        # Markdown prints nothing in bold that is empty or begins with a space.
        cells = self.cells.map(lambda text: escape(text.strip())).rename(columns=escape)
        for (row, column), mark in self.marks.items():
            text = str(cells.iat[row, column])
            cells.iat[row, column] = text and styles[mark].format(text)
        return cells

    def alignment(self, left: str, right: str) -> list[str]:
        """Returns `left` for each column of words and `right` for each column of numbers."""
        return [left if name in WORDS else right for name in self.names]


def rank_marks(figures: pd.Series) -> dict[int, str]:
    """Returns BEST and SECOND by position; figures that print alike share a mark, and NaN has none.

    A best one needs 2 figures, a second best one 3.
    """
    shown = as_printed(figures)
    levels = np.unique(shown[~np.isnan(shown)])[::-1]
    marks: dict[int, str] = {}
    if np.count_nonzero(~np.isnan(shown)) >= 2:
        marks |= {int(row): BEST for row in np.flatnonzero(shown == levels[0])}
    if np.count_nonzero(~np.isnan(shown)) >= 3 and len(levels) > 1:
        marks |= {int(row): SECOND for row in np.flatnonzero(shown == levels[1])}
    return marks


def without_empty_columns(cells: pd.DataFrame) -> pd.DataFrame:
    """Returns the cells without columns that are empty in every row; the first two columns stay."""
    return cells[[name for i, name in enumerate(cells) if i < 2 or (cells[name] != "").any()]]
