"""Tables of one pair: marks, notes on what is missing, and the best methods only."""

import numpy as np
import pandas as pd
import pytest

from reporting.tables.report import text_tables
from reporting.tables.statistics import TOO_FEW
from reporting.tables.text_table import BEST, SECOND
from tests.reporting.fake_runs import TEACHER, build, tables_of, write_metrics, write_run, write_suite

PAIR = "resnet56 → mixer_nano"


def pair_of(root, top=None):
    return tables_of(build(root), top)[PAIR]


def test_rows_stand_in_order_and_the_best_are_marked(tmp_path):
    write_suite(tmp_path)
    table = pair_of(tmp_path)
    assert list(table.cells.method) == ["teacher", "student alone", "std", "crd alpha=1", "kd"]
    assert list(table.cells["last top-1 (n)"])[2:4] == ["60.53 ± 0.59 (3)", "59.00        (1)"]
    assert table.marks == {(2, 0): BEST, (2, 1): BEST, (3, 1): SECOND}
    assert list(table.cells["vs kd"]) == ["", "", "+2.03 †", "+0.50", ""]


def test_an_initial_stage_is_noted(tmp_path):
    write_run(tmp_path, "kd")
    for name in ("fsp", "abound"):
        folder = write_run(tmp_path, name, 61.0, method=name)
        lines = [{"epoch": epoch, "epochs": 2, "train": {"loss": 1.0}, "seconds": 40.5} for epoch in (1, 2)]
        write_metrics(folder, lines, "initial_metrics.jsonl")
    report = build(tmp_path)
    note = tables_of(report)[PAIR].note
    assert "abound, fsp" in note
    assert "2 epochs" in note
    costs = tables_of(report)[f"{PAIR}: cost"].cells.set_index("method")
    assert costs["initial s"].to_dict() == {"abound": "81", "fsp": "81", "kd": ""}


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        (("std",), ("--distill none", "--distill kd")),
        (("std", "kd"), ("--distill none",)),
        (("std", "none"), ("--distill kd",)),
        (("std", "kd", "none"), ()),
    ],
)
def test_what_the_methods_cannot_be_compared_with_is_noted(tmp_path, there, missing):
    for method in there:
        write_run(tmp_path, method, method=method)
    note = pair_of(tmp_path).note
    assert all(flag in note for flag in missing)
    assert note.count("--distill") == len(missing)


@pytest.mark.parametrize(("images", "shown"), [([90, 10], True), ([50, 51], False), (None, False), ("many", False)])
def test_balanced_accuracy_is_shown_where_classes_are_uneven(tmp_path, images, shown):
    last = {"epoch": 2, "top1": 60.0, "top5": 90.0, "loss": 1.0, "balanced": 45.5}
    teachers = [{**TEACHER, "balanced": 70.25}]
    write_run(tmp_path, "kd", result={"last": last}, teachers=teachers, test_class_images=images)
    write_run(tmp_path, "old", method="std", test_class_images=images)
    report = build(tmp_path)
    cells = tables_of(report)[PAIR].cells.set_index("method")
    assert ("balanced" in cells) == shown
    assert ("alanced" in report.legend()) == shown
    if shown:
        assert cells.balanced.to_dict() == {"teacher": "70.25", "kd": "45.50", "std": ""}


def test_no_gap_to_a_weak_teacher(tmp_path):
    for method in ("none", "kd"):
        write_run(tmp_path, method, 72.63, method=method)
    table = pair_of(tmp_path)
    assert "gap %" not in table.cells
    assert "No gap" in table.note


def test_too_few_trials_are_noted_and_others_have_a_table_of_tests(tmp_path):
    write_run(tmp_path / "few", "kd1", 60.0)
    write_run(tmp_path / "few", "std1", 63.0, method="std")
    assert f"{PAIR}: difference to kd" not in tables_of(build(tmp_path / "few"))
    assert TOO_FEW in pair_of(tmp_path / "few").note
    write_suite(tmp_path / "many")
    tests = tables_of(build(tmp_path / "many"))[f"{PAIR}: difference to kd"]
    assert list(tests.cells.method) == ["std"]
    assert "crd alpha=1" in tests.note
    assert "…" in tests.cells["95% interval"][0]


def test_costs(tmp_path):
    environment = {"device": "cpu", "processor": "Some CPU", "threads": 2}
    result = {"peak_memory_mib": 300.0, "images_per_second": 1500.0}
    write_run(tmp_path, "a", result=result, environment=environment)
    table = tables_of(build(tmp_path))[f"{PAIR}: cost"]
    assert list(table.cells.iloc[0]) == ["kd", "2.00", "1,500", "300", "12,345"]
    assert "Some CPU, 2 threads" in table.note


def test_a_student_without_any_method_is_still_shown(tmp_path):
    write_run(tmp_path, "none", 50.0, method="none")
    (pair, cost) = tables_of(build(tmp_path)).values()
    assert pair.title.startswith("mixer_nano")
    assert list(pair.cells.method) == list(cost.cells.method) == ["student alone"]


# --- the best methods only ---


def test_top_keeps_the_best_methods_and_kd_with_the_marks_and_tests_of_the_whole_table(tmp_path):
    rng = np.random.default_rng(2)
    for method, mean in {"none": 60.0, "kd": 58.0, "crd": 61.0, "std": 62.0, "pkt": 61.5}.items():
        for trial in (1, 2):
            write_run(tmp_path, f"{method}{trial}", mean + rng.normal(0, 0.1), method=method, trial=trial)
    report = build(tmp_path)
    whole, short = tables_of(report), tables_of(report, top=2)
    assert list(short) == list(whole)
    pair, test = list(whole)[:2]
    assert short[pair].cells.method.tolist() == ["teacher", "student alone", "std", "pkt", "kd"]
    assert short[test].cells.method.tolist() == ["std", "pkt"]
    for title, table in short.items():
        rows = whole[title].cells.set_index("method").loc[table.cells.method].reset_index()
        pd.testing.assert_frame_equal(table.cells, rows)
    assert short[pair].marks == {(2, 0): BEST, (2, 1): BEST, (3, 1): SECOND}
    assert "--top 2" in short[pair].note
    # The second best of the whole table is not shown.
    assert SECOND not in tables_of(report, top=1)[pair].marks.values()
    assert tables_of(report, top=4)[pair].note == ""


def test_top_cuts_no_tie_and_takes_any_number(tmp_path):
    for method, top1 in {"kd": 58.0, "crd": 61.004, "std": 61.001, "pkt": 60.999, "nst": 60.0}.items():
        write_run(tmp_path, method, top1, method=method)
    table = build(tmp_path).table
    for top, count in ((1, 4), (3, 4), (4, 5), (10**400, 5)):
        assert (next(iter(text_tables(table, top))).cells.method != "teacher").sum() == count


def test_top_is_of_methods_beside_kd(tmp_path):
    """kd leads: the best other one is shown, and the table of differences has a row."""
    for method, last in {"none": 50.0, "kd": 60.0, "std": 55.0, "crd": 54.0}.items():
        for trial in (1, 2):
            write_run(tmp_path, f"{method}{trial}", last + trial, method=method, trial=trial)
    pair, difference, *_ = text_tables(build(tmp_path).table, top=1)
    assert list(pair.cells.method) == ["teacher", "student alone", "kd", "std"]
    assert list(difference.cells.method) == ["std"]
