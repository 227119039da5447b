"""Runs of one name that different code made: rows of their own, and words about it."""

import pytest
from reporting.formats.render import markdown

import compare
from reporting.formats.html.verdict import verdicts
from tests.reporting.test_compare import row_of, write_run

OLD, NEW = ({"distiller_zoo/kd.py": digest, "models/mixer.py": "m"} for digest in ("a", "b"))


def write(root, name, top1, finished, **config):
    return write_run(root, name, top1, result={"finished": f"2026-01-{finished:02}T00:00:00+00:00"}, **config)


def report_of(root):
    return compare.build_report([str(root)])


def test_the_last_code_keeps_the_name(tmp_path):
    write(tmp_path, "one", 60.0, 1, trial=1, sources=OLD)
    write(tmp_path, "two", 64.0, 2, trial=2, sources=NEW)
    write(tmp_path, "three", 66.0, 3, trial=3, sources=NEW)
    report = report_of(tmp_path)
    former = [name for name in report.table.method if name.startswith("kd (code ")]
    assert len(former) == 1
    kd, old = row_of(report.table, "kd"), row_of(report.table, former[0])
    assert (kd.n, kd["values"]) == (2, [64.0, 66.0])
    assert (old.n, old["values"]) == (1, [60.0])
    assert old.gain_over_kd == pytest.approx(-5.0)
    (note,) = [note for note in report.notes if "other code" in note]
    assert former[0] in note
    assert "trial 1" in note


def test_one_trial_by_two_codes_is_no_duplicate(tmp_path):
    write(tmp_path, "one", 60.0, 1, sources=OLD)
    write(tmp_path, "two", 64.0, 2, sources=NEW)
    report = report_of(tmp_path)
    assert sorted(report.table[report.table.role == "method"].n) == [1, 1]
    assert not [note for note in report.notes if "duplicate" in note]


def test_runs_that_do_not_say_stand_with_the_first_that_do(tmp_path):
    write(tmp_path, "silent", 60.0, 1, trial=1)
    write(tmp_path, "old", 62.0, 2, trial=2, sources=OLD)
    write(tmp_path, "new", 64.0, 3, trial=3, sources=NEW)
    table = report_of(tmp_path).table
    (former,) = [name for name in table.method if name.startswith("kd (code ")]
    assert row_of(table, former)["values"] == [60.0, 62.0]


def test_one_code_is_one_row(tmp_path):
    write(tmp_path, "silent", 60.0, 1, trial=1)
    write(tmp_path, "one", 62.0, 2, trial=2, sources=OLD)
    write(tmp_path, "two", 63.0, 3, trial=3, sources=dict(reversed(OLD.items())), earlier_sources=[])
    report = report_of(tmp_path)
    assert row_of(report.table, "kd").n == 3
    assert not [note for note in report.notes if "code" in note]


def test_a_run_that_two_codes_trained_is_of_neither(tmp_path):
    write(tmp_path, "one", 60.0, 1, trial=1, sources=NEW, earlier_sources=[OLD])
    write(tmp_path, "two", 64.0, 2, trial=2, sources=NEW)
    report = report_of(tmp_path)
    assert row_of(report.table, "kd")["values"] == [64.0]
    (note,) = [note for note in report.notes if "continued by another" in note]
    assert "distiller_zoo/kd.py" in note
    assert "mixer" not in note


def test_a_network_that_changed_between_methods_is_told(tmp_path):
    write(tmp_path, "kd", 60.0, 1, sources=NEW)
    write(tmp_path, "crd", 61.0, 2, method="crd", sources={"distiller_zoo/crd.py": "c", "models/mixer.py": "n"})
    report = report_of(tmp_path)
    assert {"kd", "crd"} <= set(report.table.method)
    assert "mixer_nano on cifar100: models/mixer.py changed between the runs" in report.notes


def test_a_run_of_two_codes_never_takes_the_name_from_one_of_one(tmp_path):
    write(tmp_path, "two", 64.0, 1, trial=2, sources=NEW)
    write(tmp_path, "three", 66.0, 2, trial=3, sources=NEW)
    write(tmp_path, "one", 60.0, 3, trial=1, sources=NEW, earlier_sources=[OLD])
    assert row_of(report_of(tmp_path).table, "kd")["values"] == [64.0, 66.0]
    write(tmp_path / "alone", "one", 60.0, 3, sources=NEW, earlier_sources=[OLD])
    report = report_of(tmp_path / "alone")
    assert row_of(report.table, "kd").n == 1
    assert [note for note in report.notes if "continued by another (distiller_zoo/kd.py changed)" in note]


def test_a_student_alone_of_former_code_is_no_method(tmp_path):
    write(tmp_path, "old", 70.0, 1, method="none", trial=1, sources={"models/mixer.py": "m"})
    write(tmp_path, "new", 60.0, 2, method="none", trial=2, sources={"models/mixer.py": "n"})
    write(tmp_path, "kd", 61.0, 3, sources=NEW)
    report = report_of(tmp_path)
    (former,) = report.table[report.table.role == "former"].itertuples()
    assert (former.top1_mean, former.method[:11]) == (70.0, "none (code ")
    kd = row_of(report.table, "kd")
    assert (kd.methods, kd.gain) == (1, 1.0)
    shown = next(report.tables())[0]
    (row,) = (row for row, name in enumerate(shown.cells.method) if name.startswith("none (code "))
    assert (row, 1) not in shown.marks
    assert [said.winner for said in verdicts(report.table)] == ["kd 61.00 ± – (1 trial)"]


def test_networks_trained_alone_are_told_apart(tmp_path):
    for trial, (top1, sources) in enumerate([(60.0, OLD), (62.0, NEW), (64.0, NEW)], 1):
        write(tmp_path, f"t{trial}", top1, trial, kind="teacher", method="none", trial=trial, sources=sources)
    table = report_of(tmp_path).table
    assert sorted(table[table.role == "network"].top1_mean) == [60.0, 63.0]
    assert sum("mixer_nano (code " in line for line in markdown(report_of(tmp_path)).splitlines()) == 1


NONSENSE = ["text", 3, [], [3], {"models/mixer.py": ["x"]}, [{"a.py": []}], {"models/mixer.py": {"x": 1}}]


@pytest.mark.parametrize("broken", NONSENSE)
@pytest.mark.parametrize("field", ["sources", "earlier_sources"])
def test_a_record_that_says_nonsense_is_read_all_the_same(tmp_path, broken, field):
    write(tmp_path, "one", 60.0, 1, **{"sources": NEW, "earlier_sources": [], field: broken})
    assert row_of(report_of(tmp_path).table, "kd").n == 1


def test_files_are_no_fields(tmp_path, capsys):
    """A dotted path could not name them."""
    write(tmp_path, "one", 60.0, 1, sources=NEW)
    assert compare.main([str(tmp_path), "--by", "sources.distiller_zoo/kd.py"]) == 2
    assert "no run's config has such a field" in capsys.readouterr().err
