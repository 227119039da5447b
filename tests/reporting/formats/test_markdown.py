"""Markdown: it prints every text letter by letter, read back by a parser of GitHub's Markdown."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reporting.formats.markdown import to_markdown
from reporting.tables.text_table import BEST, SECOND, TextTable
from tests.reporting.fake_runs import build, write_run, write_suite

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


def report_of(names):
    """What a report says if texts of the records are wherever they may."""
    cells = pd.DataFrame({"method": names, "gain": "-0.12"})
    marks = {(0, 0): BEST, (0, 1): BEST, (1, 0): SECOND}
    note = f"Measured on {'; '.join(names)}."
    table = TextTable(f"cifar100, {names[0]}", f"{names[0]} → vgg8", cells, marks, note=note)
    remarks = [f"not counted: {name}" for name in names]
    return SimpleNamespace(tables=lambda: [(table, True)], legend=lambda: f"Terms: {note}", remarks=lambda: remarks)


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
    for table, new in report.tables():
        yield from [(words(table.heading), set())] * new
        yield from ((words(text), set()) for text in (table.title, *table.cells))
        for place, text in np.ndenumerate(table.cells.to_numpy()):
            yield words(text), {names[table.marks[place]]} if place in table.marks and words(text) else set()
        yield words(table.note), set()
    yield from ((words(text), set()) for text in (report.legend(), *report.remarks()))


@settings(max_examples=100)
@given(st.lists(labels, min_size=2, max_size=4))
@example(["crd*0.5+kd*2", "std m=a_b_", r"a\|b"])
@example(["`x`", "<script>alert(1)</script>", "- a", "# a #"])
@example(["# a", f"{LONG} # b"])
@example(["- a", f"{LONG} - b"])
@example(["1. a", f"{LONG} 1. b"])
@example(["> a", f"{LONG} >b"])
@example(["---", f"{LONG} --- {LONG}"])
def test_markdown_prints_what_the_report_says(names):
    assert list(texts_of(to_markdown(report_of(names)))) == list(texts_in(report_of(names)))


def test_markdown_escapes_no_more_than_it_must(tmp_path):
    write_suite(tmp_path)
    write_run(tmp_path, "a", 60.0, method="std", label="std std_modules=last+intermediate std_mine=True")
    write_run(tmp_path, "with_under/new\nline [x] < 0.001", result=None)
    page = to_markdown(build(tmp_path))
    assert "| std std_modules=last+intermediate std_mine=True |" in page
    assert r"with_under/new\nline [x] < 0.001" in page
    assert page.count("\\") == 1


def test_the_best_are_marked_and_lines_fit_a_terminal(tmp_path):
    write_suite(tmp_path)
    write_run(tmp_path, "t", 72.0, kind="teacher", model="resnet56", teachers=[])
    page = to_markdown(build(tmp_path))
    assert "**60.53 ± 0.59 (3)**" in page
    assert " *59.00        (1)*" in page
    assert max(map(len, page.splitlines())) <= 100
