"""compare.py's pages for people: widths, colours, marks, letters that a format has a use for, LaTeX that compiles."""

import builtins
import os
import pty
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from reporting.formats.render import latex, markdown
from reporting.tables.layout import BEST, SECOND, Shown

import compare
from reporting.formats.latex import ROWS, tex
from reporting.formats.terminal import terminal
from tests.reporting.test_compare import SCRIPT, TEACHER, build, write_run, write_suite

DOCUMENT = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{table}\end{document}"


def write_many_pairs(root):
    for student in ("resnet20", "resnet8x4", "MobileNetV2", "ShuffleV1", "vgg8", "wrn_16_2", "wrn_40_1", "resnet32"):
        for method in ("kd", "crd", "std"):
            for trial in (1, 2):
                top1 = 60.0 + len(student) + len(method) + trial / 10
                write_run(root, f"{student}{method}{trial}", top1, method=method, model=student, trial=trial)


def write_many_methods(root, count):
    for number in range(count):
        write_run(root, f"many{number}", 50.0 + number / 10, method="std", label=f"std opt={number}", model="vgg13")


def cells_of(text):
    return re.findall(r"-?\d+\.\d\d", text)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_terminal_page_is_as_wide_as_the_terminal(tmp_path, width):
    write_suite(tmp_path)
    write_many_pairs(tmp_path)
    page = terminal(build(tmp_path), width)
    assert max(map(len, page.splitlines())) <= width
    assert "60.53 ± 0.59 (3)" in page
    assert ("For want of width without: top-5" in page) == (width < 100)


def test_a_summary_too_wide_is_broken_between_pairs_and_loses_nothing(tmp_path):
    write_many_pairs(tmp_path)
    report = build(tmp_path)
    parts = [terminal(report, width).split("all pairs\n")[1].split("Rank is")[0] for width in (70, 400)]
    assert sorted(cells_of(parts[0])) == sorted(cells_of(parts[1]))
    assert parts[0].count("teacher") > parts[1].count("teacher") == 1


@pytest.mark.parametrize("width", [60, 80])
def test_a_long_name_goes_on_below_and_numbers_keep_their_line(tmp_path, width):
    names = ["std std_" + "x" * 90 + end for end in "ab"] + ["std " + "std_mine=True " * 9 + end for end in "ab"]
    for number, name in enumerate(names):
        write_run(tmp_path, f"{number}", 60.0 + number, method="std", label=name)
    page = terminal(build(tmp_path), width)
    assert max(map(len, page.splitlines())) <= width
    assert "…" not in page
    assert all(f"{60 + number}.00 ± – (1)" in page for number in range(len(names)))
    letters = re.sub(r"[^a-zT_=]", "", page)  # right of the names are none
    assert all(name.replace(" ", "") in letters for name in names)
    assert ("top-5" in page.splitlines()[3]) == (width == 80)  # they take no more than half of the width from the rest


def test_colours_are_for_terminals_only(tmp_path):
    write_suite(tmp_path)
    assert "\x1b" not in terminal(build(tmp_path), 100)
    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path)], stdout=writer, env=environment)
    os.close(writer)
    page = b""
    while True:
        try:
            piece = os.read(reader, 1 << 16)
        except OSError:  # Linux ends so when the process has gone
            break
        if not piece:
            break
        page += piece
    os.close(reader)
    assert process.wait(timeout=60) == 0
    page = page.decode()
    assert "\x1b[1m" in page  # bold
    assert "60.53 ± 0.59 (3)" in page
    assert "|" not in page  # no Markdown


def test_a_file_or_a_pipe_gets_markdown(tmp_path, capsys):
    write_suite(tmp_path)
    assert compare.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("## cifar100")


def test_without_rich_the_other_formats_work(tmp_path, capsys, monkeypatch):
    write_run(tmp_path, "a", 60.0)
    original = builtins.__import__

    def without_rich(name, *args, **kwargs):
        if name.split(".")[0] == "rich":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    assert compare.main([str(tmp_path), "--format", "terminal"]) == 2
    assert "--format markdown" in capsys.readouterr().err
    assert compare.main([str(tmp_path), "--format", "markdown"]) == 0


def test_latex_marks_the_best_and_the_second_best(tmp_path):
    write_suite(tmp_path)
    page = latex(build(tmp_path))
    assert r"\textbf{60.53 $\pm$ 0.59 (3)}" in page
    assert r"\underline{59.00 $\pm$ -- (1)}" in page
    assert r"+2.03 $\dagger$" in page


def test_latex_letters_are_ascii_and_keep_accents():
    assert tex("é ñ Å ß ø î") == r"{\'{e}} {\~{n}} {\r{A}} {\ss} {\o} {\^{\i}}"
    assert tex("Łł ØÆ") == r"{\L}{\l} {\O}{\AE}"
    assert tex("-1.5 a-1 -x") == "$-$1.5 a-1 -x"
    assert tex("-2.50 … -0.10") == r"$-$2.50 \ldots{} $-$0.10"
    letters = "".join(map(chr, range(0x20, 0x3000)))
    assert tex(letters).isascii()


def test_letters_that_latex_cannot_set_stay_distinct(tmp_path):
    assert tex("方法 α \U0001f600") == "U+65B9U+6CD5 U+03B1 U+1F600"
    write_run(tmp_path, "ü", result=None)  # is named in a comment
    write_run(tmp_path, "a", label="方法")
    write_run(tmp_path, "b", label="基线")
    page = latex(build(tmp_path))
    assert page.isascii()
    assert tex("方法") in page
    assert tex("基线") in page


def test_the_note_on_averages_has_its_minus_signs_in_latex(tmp_path):
    for student in ("resnet20", "vgg8"):
        for method, top1 in (("none", 55.0), ("kd", 60.0), ("std", 61.0)):
            write_run(tmp_path, student + method, top1, method=method, model=student)
    assert r"$\sum$ (method $-$ kd) / (kd $-$ student alone)" in latex(build(tmp_path))


def test_a_long_latex_table_goes_on_in_others_with_the_same_head(tmp_path):
    write_many_methods(tmp_path, 2 * ROWS)
    write_run(tmp_path, "none", 49.0, method="none", model="vgg13")
    page = latex(build(tmp_path)).split(": cost")[0]
    parts = page.split(r"\begin{tabular}")[1:]
    rows = [part.split(r"\midrule")[1].count(r"\\") for part in parts]
    assert len(rows) == page.count(r"\toprule") == page.count("method & last top-1 (n)") == 3
    assert sum(rows) == 2 * ROWS + 2  # the teacher and the student alone
    assert max(rows) <= ROWS
    assert page.count(" (continued)}") == 2
    assert page.count(r"\textbf{std opt=79}") == page.count(r"\underline{57.80") == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here (Debian: texlive-latex-recommended)")
@pytest.mark.parametrize("published", [False, True])
def test_latex_compiles(tmp_path, published):
    has_booktabs = subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode == 0
    if not has_booktabs:
        pytest.skip("no booktabs here (Debian: texlive-latex-recommended)")
    write_suite(tmp_path / "runs")
    write_many_pairs(tmp_path / "runs")
    write_many_methods(tmp_path / "runs", 70)
    letters = "".join(c for c in map(chr, np.arange(0x21, 0x250)) if c.isprintable())
    write_run(tmp_path / "runs", "all", 61.0, method="x", label=f"[x] *{letters}", trial=9)
    write_run(tmp_path / "runs", "100%_{odd}\\", result=None)
    write_run(tmp_path / "runs", "t", 72.0, kind="teacher", model="resnet56", teachers=[])
    taught = [{**TEACHER, "model": "ResNet50", "sha256": "dd"}]
    write_run(tmp_path / "runs", "more", 73.0, model="vgg8", teachers=taught)
    report = compare.build_report([str(tmp_path / "runs")], published=published)
    (tmp_path / "table.tex").write_text(latex(report))
    (tmp_path / "page.tex").write_text(DOCUMENT)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert b"Output written on page.pdf" in done.stdout
    assert b"Overfull" not in done.stdout  # nothing reaches over the margins, at the right or below


# --- Markdown ---

# What Markdown has a use for, alone and in words.
PIECES = [
    *"*_`|\\<>[]()!&;#~-+=:.1 aé方",
    "\\*",
    "a_b",
    "a*b",
    "&amp;",
    "<b>",
    "</a>",
    "[x](y)",
    "![",
    "**",
    "http://a_b",
    "~~a~~",
    "_a_",
]
LONG = "a" * 99  # what comes after it begins a line of a paragraph
labels = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


def page_of(names):
    """What a report says if texts of the records' own stand wherever they may."""
    cells = pd.DataFrame({"method": names, "gain": "-0.12"})
    marks = {(0, 0): BEST, (0, 1): BEST, (1, 0): SECOND}
    note = f"Measured on {'; '.join(names)}."
    shown = Shown(f"cifar100, {names[0]}", f"{names[0]} → vgg8", cells, marks, note=note)
    remarks = [f"not counted: {name}" for name in names]
    return SimpleNamespace(tables=lambda: [(shown, True)], legend=lambda: f"Terms: {note}", remarks=lambda: remarks)


def words(text):
    return " ".join(text.split())


def texts_of(page):
    """Each heading, cell, paragraph and item as GFM prints it: its words, and what else it holds, such as emphasis."""
    for block in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page):
        if block.type == "inline":
            text = "".join(" " if part.type == "softbreak" else part.content for part in block.children)
            others = {part.type.removesuffix("_close") for part in block.children if part.nesting <= 0}
            yield words(text), others - {"text", "softbreak"}


def texts_in(report):
    """The same from the report itself."""
    names = {BEST: "strong", SECOND: "em"}
    for shown, new in report.tables():
        yield from [(words(shown.heading), set())] * new
        yield from ((words(text), set()) for text in (shown.title, *shown.cells))
        for place, text in np.ndenumerate(shown.cells.to_numpy()):
            yield words(text), {names[shown.marks[place]]} if place in shown.marks and words(text) else set()
        yield words(shown.note), set()
    yield from ((words(text), set()) for text in (report.legend(), *report.remarks()))


@settings(max_examples=300)
@given(st.lists(labels, min_size=2, max_size=4))
@example(["crd*0.5+kd*2", "std m=a_b_", r"a\|b"])
@example(["`x`", "<script>alert(1)</script>", "- a", "# a #"])
@example(["# a", f"{LONG} # b"])
@example(["- a", f"{LONG} - b"])
@example(["1. a", f"{LONG} 1. b"])
@example(["> a", f"{LONG} >b"])
@example(["---", f"{LONG} --- {LONG}"])
def test_markdown_prints_what_the_report_says(names):
    assert list(texts_of(markdown(page_of(names)))) == list(texts_in(page_of(names)))


def test_markdown_escapes_no_more_than_it_must(tmp_path):
    write_suite(tmp_path)
    write_run(tmp_path, "a", 60.0, method="std", label="std std_modules=last+intermediate std_mine=True")
    write_run(tmp_path, "with_under/new\nline [x] < 0.001", result=None)
    page = markdown(build(tmp_path))
    assert "| std std_modules=last+intermediate std_mine=True |" in page
    assert r"with_under/new\nline [x] < 0.001: unfinished" in page
    assert page.count("\\") == 1
