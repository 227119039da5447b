"""CSV and JSON hold one tidy table."""

import csv
import io
import json

import numpy as np
import pandas as pd

from reporting.formats.data_files import to_csv, to_json
from reporting.tables.columns import COLUMNS
from tests.reporting.fake_runs import build, row_of, write_run, write_suite


def test_csv_and_json_hold_the_same_tidy_table(tmp_path):
    write_suite(tmp_path)
    report = build(tmp_path)
    from_csv = pd.read_csv(io.StringIO(to_csv(report)), keep_default_na=False, na_values=[""])
    from_json = json.loads(to_json(report))
    assert list(from_csv.columns) == list(from_json[0]) == COLUMNS
    assert list(from_csv.method) == [row["method"] for row in from_json] == list(report.table.method)
    np.testing.assert_allclose(from_csv.last_mean, report.table.last_mean, rtol=1e-12)
    np.testing.assert_allclose([row["last_mean"] for row in from_json], report.table.last_mean, rtol=1e-12)
    assert from_json[1]["trials"] == [1, 2, 3]
    assert from_json[1]["paths"] == row_of(report.table, "none").paths
    assert from_json[0]["gain"] is None
    assert from_csv.trials[1] == "1;2;3"


def test_csv_of_strangers_runs_holds_no_formula(tmp_path):
    for number, label in enumerate(("=1+1", "+kd", "-2", "@sum", "kd")):
        write_run(tmp_path, f"=runs/{number}", label=label)
    report = build(tmp_path)
    cells = [cell for row in csv.reader(io.StringIO(to_csv(report))) for cell in row]
    assert {"'=1+1", "'+kd", "-2", "'@sum", "kd"} <= set(cells)
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "@", "\t", "\r")]
