"""CSV that spreadsheets open without running anything, and programs read with all its numbers."""

import io

import numpy as np
import pandas as pd
import pytest

from common.spreadsheet import SHIELD, csv_of


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\n=1",
        "  =1",
        "＝1",
        "-",
        "-inf",
        "=",
        "-1;=2",
    ],
)
def test_no_text_is_a_formula(text):
    for table in (pd.DataFrame({"name": [text, "kd"]}), pd.DataFrame({text: ["kd", "std"]})):
        read = pd.read_csv(io.StringIO(csv_of(table)), keep_default_na=False)
        assert SHIELD + text in [*read.columns, *read.iloc[:, 0]]


def test_a_carriage_return_begins_no_row():
    read = pd.read_csv(io.StringIO(csv_of(pd.DataFrame({"name": ["a\r=1", "\r=1"]}))))
    assert list(read.name) == [r"a\r=1", r"\r=1"]


def test_everything_else_stays():
    table = pd.DataFrame(
        {
            "method": ["kd", "crd+kd", "lr=-1", "std (code 1)"],
            "gain": [-0.5, 1e-9, np.nan, np.inf],
            "count": [-1, 2, 3, 4],
            "seeds": ["-1;2", "-3", "+4;-5.5e3", "1"],
            "mixed": [-1, None, "text", -2.5],
        }
    )
    assert csv_of(table) == table.to_csv(index=False, lineterminator="\n")
