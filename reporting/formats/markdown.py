"""Prints a report in GitHub's Markdown: pipe tables, readable as they are in a terminal."""

import re
import textwrap

from reporting.tables.report import Report
from reporting.tables.text_table import BEST, SECOND

WIDTH = 100  # of running text
# What GFM would not print as it stands; `*` too in the middle of a word, as in crd*0.5+kd*2.
SPECIAL = re.compile(
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


def to_markdown(report: Report) -> str:
    """Returns the report with its tables in Markdown."""
    parts = []
    for table, new in report.tables():
        parts += [f"## {_escape(table.heading)}"] * new + [f"### {_escape(table.title)}"]
        cells = table.styled(_escape, {BEST: "**{}**", SECOND: "*{}*"})
        alignment = table.alignment("left", "right")
        parts.append(cells.to_markdown(index=False, disable_numparse=True, colalign=alignment))
        parts += [_paragraph(table.note)] if table.note else []
    parts.append(_paragraph(report.legend()))
    remarks = "\n".join(f"- {_escape(line)}" for line in report.remarks())
    return "\n\n".join([*parts, remarks] if remarks else parts) + "\n"


def _paragraph(text: str) -> str:
    return _escape(textwrap.fill(text, WIDTH, break_long_words=False))


def _escape(text: str) -> str:
    """Returns `text` so that Markdown prints it letter by letter."""
    return SPECIAL.sub(r"\\\g<0>", text)
