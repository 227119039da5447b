"""The formats of compare.py and what prints each of them."""

from collections.abc import Callable

from reporting.formats.data_files import to_csv, to_json
from reporting.formats.html.page import to_html
from reporting.formats.latex import to_latex
from reporting.formats.markdown import to_markdown
from reporting.formats.terminal import to_terminal
from reporting.tables.report import Report

PRINTERS: dict[str, Callable[[Report], str]] = {
    "terminal": to_terminal,
    "markdown": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
    "json": to_json,
    "html": to_html,
}
