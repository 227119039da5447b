"""LaTeX: booktabs tables that any text can be put into, and that compile."""

import shutil
import subprocess

import pytest

from reporting.formats.latex import ROWS, escape, to_latex
from reporting.tables.build_report import build_report
from tests.reporting.fake_runs import build, taught_by, write_run, write_suite
from tests.reporting.formats.many_runs import write_many_methods, write_many_pairs

DOCUMENT = (
    r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}"
    r"\begin{document}\input{table}\end{document}"
)


def test_tables_are_booktabs_and_escaped(tmp_path):
    write_run(tmp_path, "a_b%", 61.0, label="kd_x 5% [α] *", mtime=1)
    write_run(tmp_path, "none", 62.5, method="none")
    page = to_latex(build(tmp_path))
    body = "\n".join(line for line in page.splitlines() if not line.startswith("%"))
    assert all(rule in body for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert r"kd\_x 5\% {[}U+03B1] {*}" in body
    assert r"mixer\_nano" in body
    assert r"\textbf{student alone}" in body
    assert "$-$1.50" in body
    assert body.count("{") == body.count("}")


def test_the_best_and_the_second_best_are_marked(tmp_path):
    write_suite(tmp_path)
    page = to_latex(build(tmp_path))
    assert r"\textbf{60.53 $\pm$ 0.59 (3)}" in page
    assert r"\underline{59.00\phantom{ $\pm$ 0.00} (1)}" in page
    assert r"+2.03 $\dagger$" in page


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("é Å ß ø Łł ž", "é Å ß ø Łł ž"),
        ("方法 α ħ \U0001f600", "U+65B9U+6CD5 U+03B1 U+0127 U+1F600"),  # distinct letters stay distinct
        ("-1.5 a-1 -x", "$-$1.5 a-1 -x"),
        ("-2.50 … -0.10", r"$-$2.50 \ldots{} $-$0.10"),
        ("59.00 ± –", r"59.00 $\pm$ --"),
        ("--distill none", "-{}-distill none"),  # two hyphens would be set as a dash
        ("Σ (method − kd)", r"$\sum$ (method $-$ kd)"),
    ],
)
def test_letters(text, latex):
    assert escape(text) == latex


def test_a_long_table_goes_on_in_others_with_the_same_head(tmp_path):
    write_many_methods(tmp_path, 2 * ROWS)
    write_run(tmp_path, "none", 49.0, method="none", model="vgg13")
    page = to_latex(build(tmp_path)).split(": cost")[0]
    parts = page.split(r"\begin{tabular}")[1:]
    rows = [part.split(r"\midrule")[1].count(r"\\") for part in parts]
    assert len(rows) == page.count(r"\toprule") == page.count("method & last top-1 (n)") == 3
    assert sum(rows) == 2 * ROWS + 2  # the teacher and the student alone
    assert max(rows) <= ROWS
    assert page.count(" (continued)}") == 2
    assert page.count(r"\textbf{std opt=79}") == page.count(r"\underline{57.80") == 1


@pytest.mark.runs
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here (Debian: texlive-latex-recommended)")
@pytest.mark.parametrize("published", [False, True])
def test_it_compiles(tmp_path, published):
    if subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode:
        pytest.skip("no booktabs here (Debian: texlive-latex-recommended)")
    write_suite(tmp_path / "runs")
    write_many_pairs(tmp_path / "runs")
    write_many_methods(tmp_path / "runs", 70)
    letters = "".join(c for c in map(chr, range(0x21, 0x250)) if c.isprintable())
    write_run(tmp_path / "runs", "all", 61.0, method="x", label=f"[x] *{letters}", trial=9)
    write_run(tmp_path / "runs", "100%_{odd}\\ é→", result=None)
    write_run(tmp_path / "runs", "t", 72.0, kind="teacher", model="resnet56", teachers=[])
    write_run(tmp_path / "runs", "more", 73.0, model="vgg8", teachers=taught_by("ResNet50"))
    report = build_report([str(tmp_path / "runs")], published=published)
    (tmp_path / "table.tex").write_text(to_latex(report), encoding="utf-8")
    (tmp_path / "page.tex").write_text(DOCUMENT)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert b"Output written on page.pdf" in done.stdout
    assert b"Overfull" not in done.stdout  # nothing reaches over the margins, at the right or below
