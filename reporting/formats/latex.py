"""Prints a report in LaTeX, to be read into a paper by \\input."""

import re

from reporting.formats.table_width import head_lines, split_columns, split_rows
from reporting.tables.numbers import ALIGNED, stand_in
from reporting.tables.report import Report
from reporting.tables.text_table import BEST, SECOND, TextTable

WIDTH = 92  # characters of a table in footnotesize on a page of text
MOST_COLUMNS = 8  # more are broken into tables; one of fewer is too wide by a word or two, and better shrunk a little
ROWS = 40  # of a table, so many that they and a title fit on a page
HEAD = (
    "% \\usepackage[T1]{fontenc}\\usepackage{booktabs,graphicx}\n"
    "% U+ and a code point stand for a letter that LaTeX's own fonts do not have."
)
ESCAPES = {
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
    "−": "$-$",
    "–": "--",
    "…": r"\ldots{}",
    "†": r"$\dagger$",
    "·": r"$\cdot$",
    "Σ": r"$\sum$",
    '"': "''",
}
# The encoding T1 has the Latin letters up to this one, without some.
LAST_LETTER, NO_LETTERS = "\u017e", "ĦħĸĿŀŉŦŧ"
# Shrinks a table that is wider than the text.
FIT = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"


def to_latex(report: Report) -> str:
    """Returns booktabs tables in UTF-8; the remarks are comments, which no paper prints.

    A table of many columns, too wide for a page of text, is broken into several, and so is one of many rows.
    """
    parts = [HEAD]
    for table, new in report.tables():
        parts += [f"\\subsection*{{{escape(table.heading)}}}"] * new
        for page in split_rows(table, ROWS):
            parts.append(f"\\noindent\\textbf{{{escape(page.title)}}}\\par\\nopagebreak\\smallskip")
            parts += map(_tabular, split_columns(page, WIDTH) if page.cells.shape[1] > MOST_COLUMNS else [page])
        # Loosely, for names of methods cannot be broken.
        parts += [f"{{\\sloppy\\noindent {escape(table.note)}\\par}}\\medskip"] if table.note else []
    parts.append(f"\\noindent {escape(report.legend())}\n")
    return "\n".join([*parts, *(f"% {line}" for line in report.remarks())]).rstrip("\n") + "\n"


def escape(text: str) -> str:
    """Returns `text` as LaTeX; a letter that its fonts do not have becomes its code point, such as U+65B9."""
    words = re.split(r"(?<=-)(?=-)", text)  # the two hyphens of a flag would be set as a dash
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", "{}".join("".join(map(_escape_letter, word)) for word in words))


def _escape_cell(text: str) -> str:
    """Returns `text` as LaTeX, with room for what is missing where several spaces align figures."""
    parts = ALIGNED.split(text)
    texts = [f"\\phantom{{{escape(stand_in(part))}}} " if i % 2 else escape(part) for i, part in enumerate(parts)]
    return "".join(texts)


def _escape_letter(letter: str) -> str:
    if letter in ESCAPES:
        return ESCAPES[letter]
    return letter if letter <= LAST_LETTER and letter not in NO_LETTERS else f"U+{ord(letter):04X}"


def _tabular(table: TextTable) -> str:
    cells = table.styled(_escape_cell, {BEST: r"\textbf{{{}}}", SECOND: r"\underline{{{}}}"})
    cells.columns = [_head(name) for name in table.names]
    body = cells.to_latex(index=False, escape=False, column_format="".join(table.alignment("l", "r")))
    return f"{{\\footnotesize\\setlength{{\\tabcolsep}}{{3pt}}\\noindent\n{FIT}{body}}}}}\\par\\medskip"


def _head(name: str) -> str:
    lines = [escape(line) for line in head_lines(name)]
    return r"\shortstack[r]{" + r" \\ ".join(lines) + "}" if len(lines) > 1 else lines[0]
