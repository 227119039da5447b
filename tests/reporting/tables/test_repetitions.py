"""What counts once: copies, competing runs of a trial, and trials that share a seed."""

import shutil

import pytest

from tests.reporting.fake_runs import build, row_of, taught_by, write_run


def test_a_copied_run_counts_once(tmp_path):
    shutil.copytree(write_run(tmp_path, "a", 60.0), tmp_path / "copy/of/a")
    report = build(tmp_path)
    assert row_of(report.table, "kd").n == 1
    (note,) = report.notes
    assert "counted copy/of/a, not a" in note


def test_runs_of_one_id_and_different_methods_are_no_copies(tmp_path):
    for method in ("kd", "crd"):
        write_run(tmp_path, method, 60.0, method=method, run_id="00000000", trial=1)
    report = build(tmp_path)
    assert {row_of(report.table, method).n for method in ("kd", "crd")} == {1}


@pytest.mark.parametrize(
    "times",
    [
        pytest.param([{"mtime": 2000}, {"mtime": 1000}], id="by the file's time, in records that say nothing"),
        pytest.param(
            [
                {"mtime": 1000, "result": {"finished": "2026-11-21T10:00:00.002+00:00"}},
                {"mtime": 2000, "result": {"finished": "2026-11-21T11:00:00.001+01:00"}},
            ],
            id="by the record, whenever it was copied",
        ),
    ],
)
def test_of_two_runs_of_one_trial_the_last_to_finish_counts(tmp_path, times):
    write_run(tmp_path, "x", 70.0, **times[0])
    write_run(tmp_path, "y", 60.0, **times[1])
    report = build(tmp_path)
    assert (row_of(report.table, "kd").n, row_of(report.table, "kd").last_mean) == (1, 70.0)
    (note,) = report.notes
    assert all(word in note for word in ("kd", "trial 1", "counted x,", "not y"))


def test_the_same_teachers_in_another_order_are_no_other_teachers(tmp_path):
    """Of kd, which learns from their mean: one trial twice, and no other checkpoint to look for."""
    pair = taught_by("a") + taught_by("b")
    for name, teachers in (("x", pair), ("y", pair[::-1])):
        write_run(tmp_path, name, 60.0, teachers=teachers, teacher_order_matters=False)
    report = build(tmp_path)
    assert row_of(report.table, "kd").n == 1
    (note,) = (note for note in report.notes if "trial 1" in note)
    assert "order" in note
    assert "other teachers" not in note


def test_trials_of_one_seed_count_and_are_noted(tmp_path):
    write_run(tmp_path, "a", trial=1, seed=7)
    write_run(tmp_path, "b", trial=2, seed=7)
    report = build(tmp_path)
    assert row_of(report.table, "kd").n == 2
    assert "seed 7" in report.notes[0]
