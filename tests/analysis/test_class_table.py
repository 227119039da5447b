"""Tables of classes: names of strangers in terminals and spreadsheets, and classes without images."""

import csv
import io

import numpy as np

from analysis.class_table import ClassTable

NAMES = ("=SUM(A1)", "two\nlines", "x" * 300)


def table(names=NAMES):
    return ClassTable.of(np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1]), 3, names)


def test_a_text_has_every_class_on_one_short_line():
    text = table().text()
    (row,) = (line for line in text.splitlines() if line.startswith("0 =SUM(A1)") and "33.33" in line)
    assert "two\\nlines (2)" in row
    assert max(map(len, text.splitlines())) < 120
    assert "balanced accuracy 66.67" in text


def test_names_are_no_formulas_in_a_spreadsheet_and_whole():
    rows = list(csv.DictReader(io.StringIO(table().csv())))
    assert [row["name"] for row in rows] == ["'=SUM(A1)", "two\\nlines", "x" * 300]
    assert [(row["mistaken_for"], row["mistaken_for_name"], row["times"]) for row in rows] == [
        ("1", "two\\nlines", "2"),
        ("", "", "0"),
        ("", "", "0"),
    ]
    assert [row["recall"] for row in rows][1:] == ["100.0", ""]


def test_a_record_has_the_whole_matrix():
    record = table(()).record()
    assert record["confusion"] == [[1, 2, 0], [0, 1, 0], [0, 0, 0]]
    assert [c["name"] for c in record["per_class"]] == ["", "", ""]


def test_no_mistakes_no_table_of_them():
    right = ClassTable.of(np.arange(3), np.arange(3), 3, ())
    assert "taken for" in table().text().split("balanced")[1]
    assert "taken for" not in right.text().split("balanced")[1]
