"""A report in one of the formats. Markdown, LaTeX and HTML are for reading; CSV and JSON hold the tidy table."""

import re
import textwrap
from collections.abc import Callable
from json import dumps

from reporting.formats.html import web
from reporting.formats.latex import latex
from reporting.formats.markup import alignment, escaped
from reporting.formats.terminal import terminal
from reporting.tables.layout import BEST, SECOND
from reporting.tables.report import Report
from reporting.tables.table import LISTS

SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json", ".html": "html"}
WIDTH = 100  # of running text
# What GFM would not print as it stands; `*` too in the middle of a word, as in crd*0.5+kd*2.
MARKDOWN = re.compile(
    r"""
    [*`|~]
    | \\(?=[!-/:-@\[-`{-~]|$)          # before other characters a backslash is itself
    | <(?=[a-zA-Z/!?])                 # a tag or an address, but not "< 0.001"
    | &(?=\#?\w+;)                     # an entity
    | \](?=\()                         # a link
    | (?<![^\W_])_                     # emphasis, but not std_modules
    | (?<!\S)\#                        # a heading, or the end of one
    | ^[-+=:](?=[-+=:]*(?:\s|$))       # a list, or the line below a heading, but not "-0.12"
    | ^> | (?<=^1)[.)](?=\s|$)
    """,
    re.MULTILINE | re.VERBOSE,
)


def markdown(report: Report) -> str:
    """Pipe tables, readable as they are in a terminal."""
    parts = []
    for shown, new in report.tables():
        parts += [f"## {_plain(shown.heading)}"] * new + [f"### {_plain(shown.title)}"]
        cells = escaped(shown, _plain, {BEST: "**{}**", SECOND: "*{}*"})
        parts.append(cells.to_markdown(index=False, disable_numparse=True, colalign=alignment(cells, "left", "right")))
        parts += [_paragraph(shown.note)] if shown.note else []
    parts.append(_paragraph(report.legend()))
    remarks = "\n".join(f"- {_plain(line)}" for line in report.remarks())
    return "\n\n".join([*parts, remarks] if remarks else parts) + "\n"


def _paragraph(text: str) -> str:
    return _plain(textwrap.fill(text, WIDTH, break_long_words=False))


def _plain(text: str) -> str:
    """`text` so that Markdown prints it letter by letter."""
    return MARKDOWN.sub(r"\\\g<0>", text)


def csv(report: Report) -> str:
    """The tidy table; several trials, values or paths stand in one field, with semicolons between."""
    table = report.data.copy()
    for name in set(LISTS) & set(table.columns):
        table[name] = [";".join(map(str, values)) for values in table[name]]
    return table.to_csv(index=False, lineterminator="\n")


def json(report: Report) -> str:
    """The tidy table as a list of objects; null is what is not known."""
    table = report.data
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    return dumps(records, indent=2, ensure_ascii=False, allow_nan=False, default=lambda value: value.item()) + "\n"


FORMATS: dict[str, Callable[[Report], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "latex": latex,
    "csv": csv,
    "json": json,
    "html": web,
}
DATA_FORMATS = ("csv", "json")  # for programs: the remarks would spoil them, so they go elsewhere
