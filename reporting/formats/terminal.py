"""Prints a report for a terminal: as wide as it is, and in its colours."""

import io
import re
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from common.console import on_console
from common.errors import RequestError
from reporting.formats.table_width import GAP, fit, head_lines, split_columns
from reporting.tables.report import Report
from reporting.tables.text_table import BEST, SECOND, WORDS, TextTable

if TYPE_CHECKING:
    from rich.table import Table as RichTable

WIDEST = 1000  # characters of a line
MINUS = re.compile(r"(?<![\w.])-(?=\d)")
STYLES = {BEST: "bold", SECOND: "underline"}


def to_terminal(report: Report, width: int | None = None, colour: bool | None = None) -> str:
    """Returns tables at most `width` characters wide.

    Columns that do not fit are hidden and named below their table; what is still too wide is broken into several tables
    with the same rows.

    Args:
        width: None for the terminal's.
        colour: whether to print escape codes; None for on a terminal only.

    Raises:
        RequestError: the package rich is not installed.
    """
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        raise RequestError("rich is not installed; `pip install -r requirements.txt`, or --format markdown") from None
    stream = sys.stdout if width is None else None  # None: a file, which is UTF-8
    width = width or min(shutil.get_terminal_size((100, 24)).columns, WIDEST)
    out = io.StringIO()
    colour = sys.stdout.isatty() if colour is None else colour
    console = Console(file=out, width=width, force_terminal=colour, highlight=False)
    for table, new in report.tables():
        if new:
            console.print(Text(table.heading, style="bold cyan"))
            console.print()
        console.print(Text(table.title, style="bold"))
        fitting, hidden = fit(_as_shown(table, stream), width)
        for part in split_columns(fitting, width):
            console.print(_rich_table(part))
        for note in (table.note, f"Hidden to fit the terminal: {', '.join(hidden)}." if hidden else ""):
            if note:
                console.print(Text(note, style="dim"))
        console.print()
    console.print(Text(report.legend(), style="dim"))
    for remark in report.remarks():
        console.print(Text(remark, style="yellow"), soft_wrap=True)  # paths stay whole
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def _as_shown(table: TextTable, stream: TextIO | None) -> TextTable:
    """The table with true minus signs, degraded for the stream before columns are measured: -> takes two, → one."""
    cells = table.cells.copy()
    for place, name in enumerate(table.names):
        for row, text in enumerate(cells.iloc[:, place]):
            signed = text if name in WORDS else MINUS.sub("−", text)
            cells.iat[row, place] = on_console(signed, stream)
    return replace(table, cells=cells)


def _rich_table(table: TextTable) -> "RichTable":
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    gap = GAP - 1  # 1 is the box's
    printed = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0), show_edge=False)
    for name in table.names:
        words = name in WORDS
        # Names may differ in their ends only, so a long one goes on below; a number keeps its line.
        printed.add_column(
            Text("\n".join(head_lines(name))), justify="left" if words else "right", overflow="fold", no_wrap=not words
        )
    for row, texts in enumerate(table.cells.to_numpy()):
        styles = [STYLES.get(table.marks.get((row, column), ""), "") for column in range(len(texts))]
        printed.add_row(*(Text(text, style=style) for text, style in zip(texts, styles, strict=True)))
    return printed
