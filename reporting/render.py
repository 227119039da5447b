"""A report in one of the formats. Markdown, LaTeX and HTML are for reading; CSV and JSON hold the tidy table."""

import re
import textwrap
import unicodedata
from collections.abc import Callable, Mapping
from json import dumps

import pandas as pd

from reporting.layout import BEST, SECOND, Shown
from reporting.report import Report
from reporting.table import LISTS
from reporting.terminal import TEXTS, terminal
from reporting.web import web
from reporting.width import split, stacked

SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json", ".html": "html"}
WIDTH = 100  # of running text
LATEX_WIDTH = 92  # characters of a table in footnotesize on a page of text
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
    "…": r"\ldots{}",
    "†": r"$\dagger$",
    "·": r"$\cdot$",
    "Σ": r"$\sum$",
    '"': "''",
    "ß": r"{\ss}",
    "æ": r"{\ae}",
    "ø": r"{\o}",
    "ł": r"{\l}",
}
# Shrinks a table that is wider than the text.
TEX_FIT = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
ACCENTS = {  # combining characters → the commands of OT1, which every document has
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def markdown(report: Report) -> str:
    """Pipe tables, readable as they are in a terminal."""
    parts = []
    for shown, new in report.tables():
        parts += [f"## {shown.heading}"] * new + [f"### {shown.title}"]
        cells = _escaped(shown, lambda text: text.replace("|", r"\|"), {BEST: "**{}**", SECOND: "*{}*"})
        parts.append(cells.to_markdown(index=False, disable_numparse=True, colalign=_alignment(cells, "left", "right")))
        parts += [textwrap.fill(shown.note, WIDTH, break_long_words=False)] if shown.note else []
    parts.append(textwrap.fill(report.legend(), WIDTH))
    remarks = "\n".join(f"- {line}" for line in report.remarks())
    return "\n\n".join([*parts, remarks] if remarks else parts) + "\n"


def latex(report: Report) -> str:
    """Booktabs tables to be read in with \\input; the remarks are comments, which no paper prints.

    Plain ASCII. A table of many columns, too wide for a page of text, is broken into several.
    """
    parts = ["% \\usepackage{booktabs,graphicx}"]
    for shown, new in report.tables():
        parts += [f"\\subsection*{{{tex(shown.heading)}}}"] * new
        parts.append(f"\\noindent\\textbf{{{tex(shown.title)}}}\\par\\nopagebreak\\smallskip")
        # Of many columns only: one of few is too wide by a word or two, and better whole and shrunk a little.
        for part in split(shown, LATEX_WIDTH) if shown.cells.shape[1] > 8 else [shown]:
            cells = _escaped(part, tex, {BEST: r"\textbf{{{}}}", SECOND: r"\underline{{{}}}"})
            columns = "".join(_alignment(cells, "l", "r"))
            cells.columns = [_tex_head(name) for name in part.cells]
            body = cells.to_latex(index=False, escape=False, column_format=columns)
            parts.append(
                f"{{\\footnotesize\\setlength{{\\tabcolsep}}{{3pt}}\\noindent\n{TEX_FIT}{body}}}}}\\par\\medskip"
            )
        parts += [f"\\noindent {tex(shown.note)}\\par\\medskip"] if shown.note else []
    parts.append(f"\\noindent {tex(report.legend())}\n")
    return "\n".join([*parts, *(f"% {line}" for line in report.remarks())]).rstrip("\n") + "\n"


def _tex_head(name: str) -> str:
    lines = [tex(line) for line in stacked(name)]
    return r"\shortstack[r]{" + r" \\ ".join(lines) + "}" if len(lines) > 1 else lines[0]


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


def tex(text: str) -> str:
    """`text` as LaTeX in ASCII; letters that a plain document cannot set become question marks."""
    return re.sub(r"^-(?=\d)", "$-$", "".join(map(_tex_letter, text)))


def _tex_letter(letter: str) -> str:
    if letter in TEX or letter.isascii():
        return TEX.get(letter, letter)
    base, *accents = unicodedata.normalize("NFD", letter)
    if len(accents) == 1 and accents[0] in ACCENTS and base.isascii() and base.isalpha():
        base = {"i": "\\i", "j": "\\j"}.get(base, base)
        return f"{{\\{ACCENTS[accents[0]]}{{{base}}}}}"
    return "?"


def _escaped(shown: Shown, escape: Callable[[str], str], styles: Mapping[str, str]) -> pd.DataFrame:
    """The cells in a format's own spelling, those that have a mark in its style."""
    cells = shown.cells.map(escape).rename(columns=escape)
    for (row, column), mark in shown.marks.items():
        cells.iat[row, column] = styles[mark].format(cells.iat[row, column])
    return cells


def _alignment(cells: pd.DataFrame, left: str, right: str) -> list[str]:
    return [left if name in TEXTS else right for name in cells.columns]
