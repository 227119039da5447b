"""A report in one of the formats. Markdown, LaTeX and HTML are for reading; CSV and JSON hold the tidy table."""

import html
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from reporting.layout import LEGEND, Shown, arrange
from reporting.runs import Skipped

NOTHING = "No finished runs yet."
SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json", ".html": "html"}
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}th,td{padding:.2em .8em;text-align:right;border-bottom:1px solid #ccc}"
    "th:first-child,td:first-child{text-align:left}"
)
TEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # a row that begins with [ or * would be an argument of the \\ before it
    "*": "{*}",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    "×": r"$\times$",
    "–": "--",
}


@dataclass(frozen=True)
class Report:
    """All that a page says: the tidy table, what its reader should know, and what was not counted."""

    table: pd.DataFrame
    notes: list[str]
    skipped: list[Skipped]

    def remarks(self) -> list[str]:
        """What stands below the tables, a line each."""
        return [f"note: {note}" for note in self.notes] + [f"not counted: {entry}" for entry in self.skipped]


def markdown(report: Report) -> str:
    """Pipe tables, readable as they are in a terminal."""
    parts = []
    for shown, new in _with_headings(report.table):
        parts += [f"## {shown.heading}"] * new + [f"### {shown.title}"]
        cells = _escaped(shown, lambda text: text.replace("|", r"\|"), "**{}**")
        parts.append(cells.to_markdown(index=False, disable_numparse=True, colalign=_alignment(cells, "left", "right")))
    parts.append(textwrap.fill(LEGEND, 100) if parts else NOTHING)
    remarks = "\n".join(f"- {line}" for line in report.remarks())
    return "\n\n".join([*parts, remarks] if remarks else parts) + "\n"


def latex(report: Report) -> str:
    """Booktabs tables to be read in with \\input; the remarks are comments, which no paper prints."""
    parts = ["% \\usepackage{booktabs}"]
    for shown, new in _with_headings(report.table):
        parts += [f"\\subsection*{{{tex(shown.heading)}}}"] * new
        parts.append(f"\\noindent\\textbf{{{tex(shown.title)}}}\\par\\smallskip")
        cells = _escaped(shown, tex, r"\textbf{{{}}}")
        body = cells.to_latex(index=False, escape=False, column_format="".join(_alignment(cells, "l", "r")))
        parts.append(f"\\noindent\n{body}\\par\\medskip")
    parts.append(f"\\noindent {tex(LEGEND if len(parts) > 1 else NOTHING)}\n")
    return "\n".join([*parts, *(f"% {line}" for line in report.remarks())]).rstrip("\n") + "\n"


def web(report: Report) -> str:
    """One page that needs nothing else."""
    parts = []
    for shown, new in _with_headings(report.table):
        parts += [f"<h2>{html.escape(shown.heading)}</h2>"] * new + [f"<h3>{html.escape(shown.title)}</h3>"]
        parts.append(_escaped(shown, html.escape, "<b>{}</b>").to_html(index=False, escape=False, border=0))
    parts.append(f"<p>{html.escape(LEGEND if parts else NOTHING)}</p>")
    remarks = [f"<li>{html.escape(line)}</li>" for line in report.remarks()]
    parts += ["<ul>", *remarks, "</ul>"] if remarks else []
    head = f'<meta charset="utf-8"><title>Comparison of runs</title><style>{STYLE}</style>'
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{body}\n</body>\n</html>\n'


def csv(report: Report) -> str:
    """The tidy table; several trials or paths stand in one field, with semicolons between."""
    table = report.table.copy()
    for name in ("trials", "paths"):
        table[name] = [";".join(map(str, values)) for values in table[name]]
    return table.to_csv(index=False, lineterminator="\n")


def json(report: Report) -> str:
    """The tidy table as a list of objects."""
    text = report.table.to_json(orient="records", indent=2, force_ascii=False, double_precision=15)
    return text.replace("\\/", "/") + "\n"  # pandas escapes every slash, which makes paths hard to copy


FORMATS: dict[str, Callable[[Report], str]] = {
    "markdown": markdown,
    "latex": latex,
    "csv": csv,
    "json": json,
    "html": web,
}
DATA_FORMATS = ("csv", "json")  # for programs: the remarks would spoil them, so they go elsewhere


def tex(text: str) -> str:
    """`text` as LaTeX; letters that a plain document cannot set become question marks."""
    text = "".join(TEX.get(c, c if ord(c) < 0x180 else "?") for c in text)
    return re.sub(r"^-(?=\d)", "$-$", text)


def _with_headings(table: pd.DataFrame) -> Iterator[tuple[Shown, bool]]:
    """Each table, and whether its heading differs from the one before."""
    heading = None
    for shown in arrange(table):
        yield shown, shown.heading != heading
        heading = shown.heading


def _escaped(shown: Shown, escape: Callable[[str], str], bold: str) -> pd.DataFrame:
    """The cells in a format's own spelling, the first two of a bold row set bold."""
    cells = shown.cells.map(escape).rename(columns=escape)
    for row in shown.bold:
        for column in range(2):
            cells.iat[row, column] = bold.format(cells.iat[row, column])
    return cells


def _alignment(cells: pd.DataFrame, left: str, right: str) -> list[str]:
    return [left if name in ("method", "model", "trained by", "protocol") else right for name in cells.columns]
