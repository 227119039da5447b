"""The tidy table: means against NumPy, roles, and what is never mixed."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reporting.formats.printers import PRINTERS
from reporting.records.run import Accuracy, Costs, Run, Skipped, Teacher
from reporting.tables.report import Report
from tests.reporting.fake_runs import TEACHER, VGG, build, row_of, tabulated, write_run, write_suite


def test_means_deviations_and_gain_agree_with_numpy(tmp_path):
    lasts = write_suite(tmp_path)
    table = build(tmp_path).table
    assert list(table.method) == ["teacher", "none", "std", "crd alpha=1", "kd"]
    for method, values in lasts.items():
        row = row_of(table, method)
        assert (row.n, row.trials, len(row.paths)) == (3, [1, 2, 3], 3)
        assert row.last_mean == pytest.approx(np.mean(values), abs=1e-12)
        assert row.last_std == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert row.best_mean == pytest.approx(np.mean(np.add(values, [0.5, 1.0, 1.5])), abs=1e-12)
        assert (row.top5_mean, row.seconds_per_epoch, row.parameters) == (90.0, 2.0, 1140000)
    gain = np.mean(lasts["std"]) - np.mean(lasts["none"])
    assert row_of(table, "std").gain == pytest.approx(gain, abs=1e-12)
    assert np.isnan(row_of(table, "none").gain)


def test_one_trial_has_no_deviation(tmp_path):
    write_run(tmp_path, "a", 61.25)
    assert np.isnan(row_of(build(tmp_path).table, "kd").last_std)


def test_the_teachers_row_is_over_distinct_checkpoints(tmp_path):
    other = {**TEACHER, "sha256": "bb", "top1": 70.0}
    for trial, teacher in enumerate([TEACHER, TEACHER, other], 1):
        for method in ("kd", "std"):
            write_run(tmp_path, f"{method}{trial}", method=method, trial=trial, teachers=[teacher])
    report = build(tmp_path)
    row = row_of(report.table, "teacher")
    assert row.n == 2
    assert row.last_mean == pytest.approx(np.mean([72.63, 70.0]))
    assert row.last_std == pytest.approx(np.std([72.63, 70.0], ddof=1))
    assert report.notes == []


def test_teachers_that_taught_together_are_no_sample(tmp_path):
    write_run(tmp_path, "kd", 53.0, teachers=[TEACHER, {**VGG, "top1": 70.0}])
    assert np.isnan(row_of(build(tmp_path).table, "teacher").top1_std)


def test_top5_is_of_all_trials_or_not_known(tmp_path):
    write_run(tmp_path, "kd1", 53.0)
    write_run(tmp_path, "kd2", 54.0, trial=2, result={"last": {"epoch": 2, "top1": 54.0, "loss": 1.0}})
    assert np.isnan(row_of(build(tmp_path).table, "kd").top5_mean)


def test_costs_are_means_over_runs_and_the_highest_memory(tmp_path):
    environment = {"device": "cpu", "processor": "Some CPU", "threads": 2}
    for trial, memory in ((1, 100.0), (2, 300.0)):
        result = {"peak_memory_mib": memory, "images_per_second": 1000.0 * trial}
        write_run(tmp_path, str(trial), trial=trial, result=result, environment=environment)
    row = row_of(build(tmp_path).table, "kd")
    assert (row.seconds_per_epoch, row.images_per_second, row.peak_memory_mib) == (2.0, 1500.0, 300.0)
    assert row.hardware == "Some CPU, 2 threads"


def test_the_student_alone_belongs_to_every_pair_of_that_student(tmp_path):
    write_run(tmp_path, "none", 50.0, method="none")
    write_run(tmp_path, "a", 53.0)
    write_run(tmp_path, "b", 54.0, teachers=[VGG])
    write_run(tmp_path, "c", 55.0, teachers=[VGG, TEACHER])
    write_run(tmp_path, "d", 40.0, model="resmlp_nano")
    table = build(tmp_path).table
    mixer = table[table.student == "mixer_nano"]
    assert set(mixer[mixer.role == "student"].teacher) == {"resnet56", "vgg13", "resnet56+vgg13"}
    assert list(mixer[mixer.role == "method"].sort_values("gain").gain) == [3.0, 4.0, 5.0]
    assert table[(table.student == "resmlp_nano") & (table.role == "method")].gain.isna().all()


def test_none_with_other_weights_is_no_baseline(tmp_path):
    write_run(tmp_path, "none", 50.0, method="none")
    write_run(tmp_path, "half", 40.0, method="none", label="none gamma=0.5")
    write_run(tmp_path, "kd", 53.0)
    table = build(tmp_path).table
    assert row_of(table, "kd").gain == 3.0
    assert row_of(table, "none gamma=0.5").role == "method"


@pytest.mark.parametrize("change", [{"protocol_id": "other"}, {"dataset": "cifar10"}, {"image_size": 224}])
def test_what_is_not_comparable_is_never_mixed(tmp_path, change):
    write_run(tmp_path, "alone", 50.0, method="none")
    write_run(tmp_path, "a", 60.0)
    write_run(tmp_path, "b", 80.0, trial=2, **change)
    report = build(tmp_path)
    kd = report.table[report.table.method == "kd"]
    assert sorted(kd.last_mean) == [60.0, 80.0]
    assert sorted(kd.gain.dropna()) == [10.0]
    assert len({table.heading for table, _ in report.tables()}) == 2


def test_protocols_stand_in_the_order_of_their_numbers(tmp_path):
    for epochs in (12, 2, 100):
        write_run(tmp_path, str(epochs), protocol=f"deit, {epochs} epochs", protocol_id=f"{epochs}")
    assert list(dict.fromkeys(build(tmp_path).table.protocol_id)) == ["2", "12", "100"]


runs = st.builds(
    Run,
    folder=st.uuids().map(str),
    kind=st.sampled_from(["student", "student", "teacher"]),
    dataset=st.just("cifar100"),
    num_classes=st.just(100),
    image_size=st.just(32),
    model=st.sampled_from(["a", "b"]),
    method=st.sampled_from(["none", "kd", "std"]),
    label=st.just(""),
    teachers=st.lists(
        st.sampled_from(
            [Teacher("t", "x", Accuracy(70.1)), Teacher("t", "y", Accuracy(71.3)), Teacher("u", "z", Accuracy(9))]
        )
    ).map(tuple),
    trial=st.integers(1, 3),
    seed=st.integers(1, 2),
    run_id=st.sampled_from("pqrstuvw"),
    protocol=st.just("deit"),
    protocol_id=st.sampled_from(["1", "2"]),
    epochs=st.just(0),
    last=st.builds(Accuracy, st.floats(0, 100), st.none() | st.floats(0, 100)),
    best=st.builds(Accuracy, st.floats(0, 100)),
    costs=st.builds(
        Costs, seconds_per_epoch=st.none() | st.floats(0, 100), method_parameters=st.none() | st.integers(0, 9)
    ),
    finished_at=st.integers(0, 3),
).map(lambda run: dataclasses.replace(run, label=run.method, teachers=() if run.method == "none" else run.teachers))


@settings(max_examples=10)
@given(st.lists(runs, max_size=8, unique_by=lambda run: run.path), st.randoms())
def test_the_order_of_runs_changes_nothing(found, random):
    table, notes = tabulated(found)
    again, notes_again = tabulated(random.sample(found, len(found)))
    pd.testing.assert_frame_equal(table, again, check_exact=True)
    assert notes == notes_again


@settings(max_examples=3)
@given(st.lists(runs, min_size=8, max_size=8, unique_by=lambda run: run.path))
def test_any_runs_have_a_report_in_every_format(found):
    report = Report(*tabulated(found), [Skipped("p", "foreign", "r")])
    assert all(to_text(report) for to_text in PRINTERS.values())
