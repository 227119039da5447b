"""`compare.py --published` without runs: the field's own figures, against a recount of the file line by line."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter

import pytest

import compare
from reporting.layout import BEST
from reporting.literature import arrange_literature, literature
from tests.helpers import ROOT
from tests.test_compare import write_run


def recount():
    """{(method, teacher, student): the first own figure under the shared protocol}, of the usual pairs."""
    with open(ROOT / "results/published/cifar100.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    usual = {pair for pair, n in Counter((row["teacher"], row["student"]) for row in rows).items() if n >= 60}
    found = {}
    for row in rows:
        shared = (row["recipe"], row["epochs"], row["setting"], row["origin"]) == ("repdistiller", "240", "", "own")
        if shared and row["distill"] and (row["teacher"], row["student"]) in usual:
            found.setdefault((row["distill"], row["teacher"], row["student"]), float(row["top1"]))
    return found


def test_every_figure_stands_in_its_place():
    expected = recount()
    shown = arrange_literature(literature())
    cells = shown.cells.set_index("method")
    pairs = {(teacher, student) for _, teacher, student in expected}
    assert len(pairs) == 13
    assert set(cells.columns) == {"epoch", "mean gain", *(f"{t} → {s}" for t, s in pairs)}
    for method in cells.index:
        for teacher, student in pairs:
            figure = expected.get((method, teacher, student))
            assert cells.loc[method, f"{teacher} → {student}"] == ("" if figure is None else f"{figure:.2f}")
    for method in cells.index[2:]:
        gains = [expected[m, t, s] - expected["student alone", t, s] for m, t, s in expected if m == method]
        gain, _, count = cells.loc[method, "mean gain"].partition(" ")
        assert float(gain) == pytest.approx(sum(gains) / len(gains), abs=0.006)
        assert count == ("" if len(gains) == 13 else f"({len(gains)})")
    gains = [float(text.split()[0]) for text in cells["mean gain"][2:]]
    assert gains == sorted(gains, reverse=True)
    for teacher, student in pairs:
        column = 1 + list(cells.columns).index(f"{teacher} → {student}")
        best = {cells.index[row] for (row, c), mark in shown.marks.items() if c == column and mark == BEST}
        figures = {m: top1 for (m, t, s), top1 in expected.items() if (t, s) == (teacher, student)}
        del figures["teacher"], figures["student alone"]
        assert best == {m for m, top1 in figures.items() if top1 == max(figures.values())}


def in_folder(folder, *words):
    command = [sys.executable, str(ROOT / "compare.py"), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})


@pytest.mark.parametrize("name", ["markdown", "latex", "csv", "json", "html", "terminal"])
def test_without_runs_it_stands_alone_in_every_format(tmp_path, name):
    done = in_folder(tmp_path, "--published", "--format", name)
    assert done.returncode == 0, done.stderr
    assert "wttm" in done.stdout
    assert "no runs of your own in save yet" in done.stdout + done.stderr
    if name == "json":
        assert {row["distill"] for row in json.loads(done.stdout)} >= {"teacher", "student alone", "kd", "dkd"}


def test_the_folder_of_the_figures_stands_alone(tmp_path):
    """Also where `save` holds runs."""
    write_run(tmp_path / "save", "a", 60.0)
    done = in_folder(tmp_path, str(ROOT / "results" / "published"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == in_folder(tmp_path, str(ROOT / "results" / "published"), "--published").stdout
    assert "wttm" in done.stdout
    assert "of your own" not in done.stdout


def test_with_runs_or_a_named_folder_it_is_the_comparison(tmp_path):
    missing = in_folder(tmp_path, "nowhere", "--published")
    assert missing.returncode == 2
    assert "nowhere does not exist" in missing.stderr
    write_run(tmp_path / "save", "a", 60.0)
    done = in_folder(tmp_path, "--published")
    assert done.returncode == 0
    assert "no runs of your own" not in done.stdout
    assert compare.main([str(tmp_path / "save"), "--published"]) == 0
