"""Runs of one label that different code made: rows of their own, and notes on it."""

import pytest

from reporting.formats.html.verdict import verdicts
from reporting.tables.build_report import build_report
from tests.reporting.fake_runs import row_of, write_run

OLD, NEW = ({"distiller_zoo/kd.py": digest, "models/mixer.py": "m"} for digest in ("a", "b"))


def write(root, name, top1, finished, **config):
    return write_run(root, name, top1, result={"finished": f"2026-01-{finished:02}T00:00:00+00:00"}, **config)


def report_of(root):
    return build_report([str(root)])


def former_of(table):
    """The label of the row of former code."""
    (label,) = (name for name in table.method if "(code " in name)
    return label


def test_the_last_code_keeps_the_name(tmp_path):
    write(tmp_path, "one", 60.0, 1, trial=1, code=OLD)
    write(tmp_path, "two", 64.0, 2, trial=2, code=NEW)
    write(tmp_path, "three", 66.0, 3, trial=3, code=NEW)
    report = report_of(tmp_path)
    former = former_of(report.table)
    kd, old = row_of(report.table, "kd"), row_of(report.table, former)
    assert (kd.n, kd["values"]) == (2, [64.0, 66.0])
    assert (old.n, old["values"]) == (1, [60.0])
    assert old.gain_over_kd == pytest.approx(-5.0)
    (note,) = report.notes
    assert former in note
    assert "trial 1" in note


def test_one_trial_by_two_codes_is_no_duplicate(tmp_path):
    write(tmp_path, "one", 60.0, 1, code=OLD)
    write(tmp_path, "two", 64.0, 2, code=NEW)
    report = report_of(tmp_path)
    assert sorted(report.table[report.table.role == "method"].n) == [1, 1]
    assert not [note for note in report.notes if "duplicate" in note]


def test_runs_of_unknown_code_are_with_the_first_that_is_known(tmp_path):
    write(tmp_path, "silent", 60.0, 1, trial=1)
    write(tmp_path, "old", 62.0, 2, trial=2, code=OLD)
    write(tmp_path, "new", 64.0, 3, trial=3, code=NEW)
    table = report_of(tmp_path).table
    assert row_of(table, former_of(table))["values"] == [60.0, 62.0]


def test_one_code_is_one_row(tmp_path):
    write(tmp_path, "silent", 60.0, 1, trial=1)
    write(tmp_path, "one", 62.0, 2, trial=2, code=OLD)
    write(tmp_path, "two", 63.0, 3, trial=3, code=dict(reversed(OLD.items())), earlier_code=[])
    report = report_of(tmp_path)
    assert row_of(report.table, "kd").n == 3
    assert report.notes == []


def test_digests_of_older_records_are_unknown(tmp_path):
    for trial, digest in enumerate("abc", 1):
        files = {"distiller_zoo/kd.py": digest, "models/mixer.py": digest}
        write(tmp_path, digest, 60.0 + trial, trial, trial=trial, sources=files, earlier_sources=[OLD])
    write(tmp_path, "new", 64.0, 4, trial=4, code=NEW)
    report = report_of(tmp_path)
    assert row_of(report.table, "kd").n == 4
    assert report.notes == []


def test_a_run_that_two_codes_trained_is_of_neither(tmp_path):
    write(tmp_path, "one", 60.0, 1, trial=1, code=NEW, earlier_code=[OLD])
    write(tmp_path, "two", 64.0, 2, trial=2, code=NEW)
    report = report_of(tmp_path)
    assert row_of(report.table, "kd")["values"] == [64.0]
    (note,) = report.notes
    assert "distiller_zoo/kd.py" in note
    assert "mixer" not in note


def test_a_network_that_changed_between_methods_is_noted(tmp_path):
    write(tmp_path, "kd", 60.0, 1, code=NEW)
    write(tmp_path, "crd", 61.0, 2, method="crd", code={"distiller_zoo/crd.py": "c", "models/mixer.py": "n"})
    report = report_of(tmp_path)
    assert {"kd", "crd"} <= set(report.table.method)
    (note,) = report.notes
    assert all(word in note for word in ("mixer_nano", "cifar100", "models/mixer.py"))


def test_a_run_of_two_codes_never_takes_the_name_from_one_of_one(tmp_path):
    write(tmp_path, "two", 64.0, 1, trial=2, code=NEW)
    write(tmp_path, "three", 66.0, 2, trial=3, code=NEW)
    write(tmp_path, "one", 60.0, 3, trial=1, code=NEW, earlier_code=[OLD])
    assert row_of(report_of(tmp_path).table, "kd")["values"] == [64.0, 66.0]
    write(tmp_path / "alone", "one", 60.0, 3, code=NEW, earlier_code=[OLD])
    report = report_of(tmp_path / "alone")
    assert row_of(report.table, "kd").n == 1
    (note,) = report.notes
    assert "distiller_zoo/kd.py" in note


def test_a_student_alone_of_former_code_is_no_method(tmp_path):
    write(tmp_path, "old", 70.0, 1, method="none", trial=1, code={"models/mixer.py": "m"})
    write(tmp_path, "new", 60.0, 2, method="none", trial=2, code={"models/mixer.py": "n"})
    write(tmp_path, "kd", 61.0, 3, code=NEW)
    report = report_of(tmp_path)
    (former,) = report.table[report.table.role == "former"].itertuples()
    assert (former.top1_mean, former.method) == (70.0, former_of(report.table))
    kd = row_of(report.table, "kd")
    assert (kd.methods, kd.gain) == (1, 1.0)
    shown = next(report.tables())[0]
    assert (list(shown.cells.method).index(former.method), 1) not in shown.marks
    assert [verdict.winner.split()[0] for verdict in verdicts(report.table)] == ["kd"]


def test_networks_trained_alone_are_apart_too(tmp_path):
    for trial, (top1, code) in enumerate([(60.0, OLD), (62.0, NEW), (64.0, NEW)], 1):
        write(tmp_path, f"t{trial}", top1, trial, kind="teacher", method="none", trial=trial, code=code)
    table = report_of(tmp_path).table
    assert sorted(table[table.role == "network"].top1_mean) == [60.0, 63.0]
    assert former_of(table)


NONSENSE = ["text", 3, [], [3], {"models/mixer.py": ["x"]}, [{"a.py": []}], {"models/mixer.py": {"x": 1}}]


@pytest.mark.parametrize("broken", NONSENSE, ids=str)
@pytest.mark.parametrize("field", ["code", "earlier_code"])
def test_nonsense_is_unknown_code(tmp_path, broken, field):
    write(tmp_path, "one", 60.0, 1, **{"code": NEW, "earlier_code": [], field: broken})
    assert row_of(report_of(tmp_path).table, "kd").n == 1
