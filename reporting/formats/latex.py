"""A report in LaTeX, which every document can read in."""

import re
import unicodedata

from reporting.formats.markup import alignment, escaped
from reporting.formats.width import pages, split, stacked
from reporting.tables.layout import BEST, SECOND, Shown
from reporting.tables.report import Report

WIDTH = 92  # characters of a table in footnotesize on a page of text
ROWS = 40  # of a table, so many that they and a title fit on a page
HEAD = "% \\usepackage{booktabs,graphicx}\n% U+ and a code point stand for a letter that plain LaTeX cannot set."
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
    "−": "$-$",
    "–": "--",
    "…": r"\ldots{}",
    "†": r"$\dagger$",
    "·": r"$\cdot$",
    "Σ": r"$\sum$",
    '"': "''",
    "ß": r"{\ss}",
    "æ": r"{\ae}",
    "Æ": r"{\AE}",
    "ø": r"{\o}",
    "Ø": r"{\O}",
    "ł": r"{\l}",
    "Ł": r"{\L}",
}
# Shrinks a table that is wider than the text.
FIT = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
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


def latex(report: Report) -> str:
    """Booktabs tables to be read in with \\input; the remarks are comments, which no paper prints.

    Plain ASCII. A table of many columns, too wide for a page of text, is broken into several, and so is one of many
    rows.
    """
    parts = [HEAD]
    for shown, new in report.tables():
        parts += [f"\\subsection*{{{tex(shown.heading)}}}"] * new
        for page in pages(shown, ROWS):
            parts.append(f"\\noindent\\textbf{{{tex(page.title)}}}\\par\\nopagebreak\\smallskip")
            # Of many columns only: one of few is too wide by a word or two, and better whole and shrunk a little.
            parts += map(_table, split(page, WIDTH) if page.cells.shape[1] > 8 else [page])
        # Loosely, for names of methods cannot be broken.
        parts += [f"{{\\sloppy\\noindent {tex(shown.note)}\\par}}\\medskip"] if shown.note else []
    parts.append(f"\\noindent {tex(report.legend())}\n")
    remarks = [f"% {line}".encode("ascii", "backslashreplace").decode() for line in report.remarks()]
    return "\n".join([*parts, *remarks]).rstrip("\n") + "\n"


def tex(text: str) -> str:
    """`text` as LaTeX in ASCII; a letter that a plain document cannot set becomes its code point, such as U+65B9."""
    words = re.split(r"(?<=-)(?=-)", text)  # the two hyphens of a flag would be set as a dash
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", "{}".join("".join(map(_letter, word)) for word in words))


def _table(shown: Shown) -> str:
    cells = escaped(shown, tex, {BEST: r"\textbf{{{}}}", SECOND: r"\underline{{{}}}"})
    columns = "".join(alignment(cells, "l", "r"))
    cells.columns = [_head(name) for name in shown.cells]
    body = cells.to_latex(index=False, escape=False, column_format=columns)
    return f"{{\\footnotesize\\setlength{{\\tabcolsep}}{{3pt}}\\noindent\n{FIT}{body}}}}}\\par\\medskip"


def _head(name: str) -> str:
    lines = [tex(line) for line in stacked(name)]
    return r"\shortstack[r]{" + r" \\ ".join(lines) + "}" if len(lines) > 1 else lines[0]


def _letter(letter: str) -> str:
    if letter in TEX or letter.isascii():
        return TEX.get(letter, letter)
    base, *accents = unicodedata.normalize("NFD", letter)
    if len(accents) == 1 and accents[0] in ACCENTS and base.isascii() and base.isalpha():
        base = {"i": "\\i", "j": "\\j"}.get(base, base)
        return f"{{\\{ACCENTS[accents[0]]}{{{base}}}}}"
    return f"U+{ord(letter):04X}"
