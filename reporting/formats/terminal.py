"""A report for the eye: as wide as the terminal, with colour where there is one."""

import io
import shutil
import sys

from common.errors import RequestError
from reporting.formats.width import GAP, fit, split, stacked
from reporting.tables.layout import BEST, SECOND, Shown
from reporting.tables.report import Report

# Columns of words, which begin at the left.
TEXTS = ("method", "model", "trained by", "protocol", "differs", "epoch", "terms")
STYLES = {BEST: "bold", SECOND: "underline"}


def terminal(report: Report, width: int | None = None, colour: bool | None = None) -> str:
    """The tables at most `width` characters wide (None: as the terminal is).

    Where a table is wider, columns that matter less are left out and named below; what is still too wide is broken
    into several tables with the same rows. Colours (None: on a terminal only) are its escape codes.

    Raises:
        RequestError: the package rich is not installed.
    """
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        raise RequestError("rich is not installed; `pip install -r requirements.txt`, or --format markdown") from None
    width = width or shutil.get_terminal_size((100, 24)).columns
    out = io.StringIO()
    colour = sys.stdout.isatty() if colour is None else colour
    console = Console(file=out, width=width, force_terminal=colour, highlight=False)
    for shown, new in report.tables():
        if new:
            console.print(Text(shown.heading, style="bold cyan"))
            console.print()
        console.print(Text(shown.title, style="bold"))
        kept, dropped = fit(shown, width)
        for part in split(kept, width):
            console.print(_rich_table(part))
        notes = [f"For want of width without: {', '.join(dropped)}."] if dropped else []
        for note in [shown.note, *notes]:
            if note:
                console.print(Text(note, style="dim"))
        console.print()
    console.print(Text(report.legend(), style="dim"))
    for remark in report.remarks():
        console.print(Text(remark, style="yellow"), soft_wrap=True)  # paths stay whole
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def _rich_table(shown: Shown):
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, GAP - 1, 0, 0), show_edge=False)  # 1 is the box's
    for name in shown.cells:
        words = name in TEXTS
        # Names may differ in their ends only, so a long one goes on below; a number keeps its line.
        table.add_column(
            Text("\n".join(stacked(name))), justify="left" if words else "right", overflow="fold", no_wrap=not words
        )
    for row, texts in enumerate(shown.cells.to_numpy()):
        styles = [STYLES.get(shown.marks.get((row, column)), "") for column in range(len(texts))]
        table.add_row(*(Text(text, style=style) for text, style in zip(texts, styles, strict=True)))
    return table
