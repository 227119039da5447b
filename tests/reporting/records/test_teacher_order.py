"""The order of teachers, and their checkpoints: which runs repeat one another, and which are other settings."""

import pytest

from reporting.formats.markdown import to_markdown
from tests.reporting.fake_runs import TEACHER, build, row_of, write_run

SMALL, LARGE = ({**TEACHER, "model": name, "sha256": name} for name in ("resnet8", "resnet14"))
ALIKE = [{**TEACHER, "sha256": digest * 64} for digest in "ab"]
OWN_LOSS = {"weights": {"gamma": 1.0, "alpha": 0.0, "beta": 0.5}}


def methods_of(root):
    table = build(root).table
    return {row.method: row.n for row in table.itertuples() if row.role == "method"}


@pytest.mark.parametrize("declared", [{"teacher_order_matters": True}, {}], ids=["declared", "older record"])
@pytest.mark.parametrize("trial", [1, 2])
def test_two_orders_are_two_rows_of_one_pair(tmp_path, declared, trial):
    """In one trial or in two; the order of a single run is shown too."""
    write_run(tmp_path, "none", 50.0, method="none")
    write_run(tmp_path, "up", 60.0, method="std", teachers=[SMALL, LARGE], **OWN_LOSS, **declared)
    assert methods_of(tmp_path) == {"std teachers=resnet8,resnet14": 1}
    write_run(tmp_path, "down", 55.0, method="std", teachers=[LARGE, SMALL], trial=trial, **OWN_LOSS, **declared)
    report = build(tmp_path)
    assert not [note for note in report.notes if "duplicate" in note]
    assert set(report.table.teacher) == {"resnet14+resnet8"}
    assert row_of(report.table, "std teachers=resnet8,resnet14").gain == 10.0
    assert row_of(report.table, "std teachers=resnet14,resnet8").gain == 5.0
    assert "teachers=resnet8,resnet14" in to_markdown(report)


@pytest.mark.parametrize(
    "config",
    [
        {"teacher_order_matters": False, **OWN_LOSS},
        {"weights": {"gamma": 0.1, "alpha": 0.9, "beta": 0.0}},  # an older record without losses of its own
    ],
)
def test_an_order_without_meaning_is_none(tmp_path, config):
    write_run(tmp_path, "up", 60.0, teachers=[SMALL, LARGE], **config)
    write_run(tmp_path, "down", 62.0, teachers=[LARGE, SMALL], trial=2, **config)
    assert methods_of(tmp_path) == {"kd": 2}


def test_older_records_are_as_later_ones_of_their_method(tmp_path):
    write_run(tmp_path, "old", method="dkd", teachers=[LARGE, SMALL], **OWN_LOSS)
    write_run(tmp_path, "new", method="dkd", teachers=[SMALL, LARGE], trial=2, teacher_order_matters=False, **OWN_LOSS)
    assert methods_of(tmp_path) == {"dkd": 2}


def test_checkpoints_of_one_network_are_named_where_their_order_differs(tmp_path):
    for name, teachers in (("up", ALIKE), ("down", ALIKE[::-1])):
        write_run(tmp_path, name, method="std", teachers=teachers, teacher_order_matters=True)
    assert set(methods_of(tmp_path)) == {
        "std teachers=resnet56_(aaaaaaaa),resnet56_(bbbbbbbb)",
        "std teachers=resnet56_(bbbbbbbb),resnet56_(aaaaaaaa)",
    }


def test_one_trial_by_two_checkpoints_of_a_network_is_two_pairs(tmp_path):
    write_run(tmp_path, "none", 50.0, method="none")
    for number, teacher in enumerate(ALIKE):
        for method in ("kd", "crd"):
            write_run(tmp_path, f"{method}{number}", 60.0 + number, method=method, teachers=[teacher])
    table = build(tmp_path).table
    assert set(table.teacher) == {"resnet56 (aaaaaaaa)", "resnet56 (bbbbbbbb)"}
    assert sorted(table[table.method == "kd"].gain) == [10.0, 11.0]


def test_trials_with_a_teacher_each_are_repetitions(tmp_path):
    for trial, teacher in enumerate(ALIKE, 1):
        write_run(tmp_path, f"kd{trial}", teachers=[teacher], trial=trial)
    assert methods_of(tmp_path) == {"kd": 2}


def test_a_teacher_by_another_normalisation_is_another_teacher(tmp_path):
    write_run(tmp_path, "a", 60.0)
    write_run(tmp_path, "b", 61.0, trial=2, teachers=[{**TEACHER, "normalisation": [[0.5] * 3, [0.5] * 3]}])
    assert set(build(tmp_path).table.teacher) == {"resnet56", "resnet56 (mean 0.5, std 0.5)"}
