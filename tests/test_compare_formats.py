"""compare.py's terminal and LaTeX pages: widths, colours, marks, and a document that compiles."""

import builtins
import os
import pty
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import compare
from reporting.render import latex, tex
from reporting.terminal import terminal
from tests.test_compare import SCRIPT, TEACHER, build, write_run, write_suite

DOCUMENT = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{table}\end{document}"


def write_many_pairs(root):
    for student in ("resnet20", "resnet8x4", "MobileNetV2", "ShuffleV1", "vgg8", "wrn_16_2", "wrn_40_1", "resnet32"):
        for method in ("kd", "crd", "std"):
            for trial in (1, 2):
                top1 = 60.0 + len(student) + len(method) + trial / 10
                write_run(root, f"{student}{method}{trial}", top1, method=method, model=student, trial=trial)


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
    assert tex("Ħ α \U0001f600 đ") == "? ? ? ?"
    assert tex("-1.5 a-1") == "$-$1.5 a-1"
    letters = "".join(map(chr, range(0x20, 0x3000)))
    assert tex(letters).isascii()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here (Debian: texlive-latex-recommended)")
@pytest.mark.parametrize("published", [False, True])
def test_latex_compiles(tmp_path, published):
    has_booktabs = subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode == 0
    if not has_booktabs:
        pytest.skip("no booktabs here (Debian: texlive-latex-recommended)")
    write_suite(tmp_path / "runs")
    write_many_pairs(tmp_path / "runs")
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
    assert b"Overfull" not in done.stdout  # nothing reaches over the margin
