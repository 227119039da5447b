"""What Markdown and LaTeX have in common: marks put around escaped cells, and columns that begin at the left."""

from collections.abc import Callable, Mapping

import pandas as pd

from reporting.formats.terminal import TEXTS
from reporting.tables.layout import Shown


def escaped(shown: Shown, escape: Callable[[str], str], styles: Mapping[str, str]) -> pd.DataFrame:
    """The cells in a format's own spelling, those that have a mark in its style.

    Args:
        styles: a template for BEST and for SECOND, such as "**{}**".
    """
    # Markdown puts nothing in bold that is empty or begins with a space.
    cells = shown.cells.map(lambda text: escape(text.strip())).rename(columns=escape)
    for (row, column), mark in shown.marks.items():
        text = cells.iat[row, column]
        cells.iat[row, column] = text and styles[mark].format(text)
    return cells


def alignment(cells: pd.DataFrame, left: str, right: str) -> list[str]:
    """`left` for columns of words, `right` for columns of numbers."""
    return [left if name in TEXTS else right for name in cells]
