"""Tables of texts: their marks go with their cells."""

import numpy as np
import pandas as pd
import pytest

from reporting.tables.text_table import BEST, SECOND, TextTable, rank_marks


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ([70.0], {}),
        ([70.0, 71.0], {1: BEST}),
        ([70.0, 71.0, 69.0], {1: BEST, 0: SECOND}),
        ([70.001, 69.999, 69.0, np.nan], {0: BEST, 1: BEST, 2: SECOND}),
        ([70.0, 70.0, 70.0], {0: BEST, 1: BEST, 2: BEST}),
        ([np.nan, np.nan], {}),
    ],
)
def test_best_and_second_best(figures, expected):
    assert rank_marks(pd.Series(figures, dtype=float)) == expected


TABLE = TextTable(
    "heading",
    "title",
    pd.DataFrame({"method": ["kd", " std ", ""], "gain": ["+1", "+2", ""], "top-5": ["90", "91", "92"]}),
    {(1, 0): BEST, (1, 1): BEST, (2, 1): BEST, (0, 2): SECOND},
    note="Note.",
)


def test_a_part_keeps_the_marks_of_its_cells():
    rows = TABLE.with_rows([1, 2])
    assert (list(rows.cells.method), rows.marks) == ([" std ", ""], {(0, 0): BEST, (0, 1): BEST, (1, 1): BEST})
    columns = TABLE.with_columns([0, 2])
    assert (list(columns.cells), columns.marks) == (["method", "top-5"], {(1, 0): BEST, (0, 1): SECOND})


def test_hidden_rows_are_counted_in_the_note():
    assert TABLE.shortened([0, 1, 2], 9) is TABLE
    short = TABLE.shortened([1], 1)
    assert "2" in short.note
    assert short.note.endswith("Note.")


def test_marked_cells_have_a_style_unless_they_are_empty():
    cells = TABLE.styled(str.upper, {BEST: "<{}>", SECOND: "({})"})
    assert cells.to_numpy().tolist() == [["KD", "+1", "(90)"], ["<STD>", "<+2>", "91"], ["", "", "92"]]
    assert list(cells) == ["METHOD", "GAIN", "TOP-5"]
    assert TABLE.alignment("l", "r") == ["l", "r", "r"]
