"""One folder: a finished run with every figure, or the state and the reason why it does not count."""

import json
import os

import numpy as np
import pytest

from reporting.formats.printers import PRINTERS
from reporting.records.read_run import read_folder
from reporting.records.run import Skipped
from reporting.tables.build_report import build_report
from tests.reporting.fake_runs import TEACHER, row_of, write_metrics, write_run


def test_an_unfinished_run_is_listed_with_its_epoch(tmp_path):
    folder = write_run(tmp_path, "a", result=None)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "tr')
    for found in (read_folder(folder), read_folder(write_run(tmp_path, "b", result={"status": "failed"}))):
        assert found.state == "unfinished"
        assert "(epoch 2 of 2)" in found.reason


@pytest.mark.parametrize(
    ("result", "named"),
    [
        ({"last": {"epoch": 2}}, ["last", "top1"]),
        ({"last": {"epoch": 2, "top1": float("nan")}}, ["top1"]),
        ({"last": {"epoch": 2, "top1": True}}, ["top1"]),
        ({"last": {"epoch": 2, "top1": 10**400}}, ["top1"]),
        ({"last": {"epoch": 1, "top1": 50.0}}, ["1", "2"]),
        ({"last": {"epoch": 99, "top1": 60.0}}, ["99", "2"]),
        ({"best": {"epoch": 1, "top1": 12.0}}, ["12.00", "60.00"]),
        ({"last": {"epoch": 2, "top1": 59.0}}, ["59.00", "result.json", "60.00", "metrics.jsonl"]),
        ({"best": {"epoch": 1, "top1": 99.9}}, ["99.90", "result.json", "60.00", "metrics.jsonl"]),
        ({"last": {"epoch": 2, "top1": 60.0, "loss": float("nan")}}, ["loss", "nan"]),
        ({"best": None}, ["best"]),
        ({"parameters": "many"}, ["parameters"]),
        ({"status": 1}, ["status"]),
    ],
)
def test_a_result_with_bad_fields_is_broken(tmp_path, result, named):
    found = read_folder(write_run(tmp_path, "a", result=result))
    assert found.state == "broken"
    assert all(name in found.reason for name in [*named, "(epoch 2 of 2)"])


@pytest.mark.parametrize("field", ["label", "dataset", "model"])
def test_nameless_rows_and_headings_are_broken(tmp_path, field):
    assert field in read_folder(write_run(tmp_path, "a", **{field: " "})).reason


@pytest.mark.parametrize("name", ["dataset", "model", "method", "label", "teachers", "trial", "recipe", "run_id"])
def test_a_config_without_a_field_is_broken(tmp_path, name):
    folder = write_run(tmp_path, "a")
    config = json.loads((folder / "config.json").read_text())
    del config[name]
    (folder / "config.json").write_text(json.dumps(config))
    found = read_folder(folder)
    assert (found.state, name in found.reason) == ("broken", True)


def test_records_may_be_rounded(tmp_path):
    result = {"last": {"epoch": 2, "top1": 60.004}, "best": {"epoch": 2, "top1": 60.0}}
    assert read_folder(write_run(tmp_path, "a", result=result)).last.top1 == 60.004


CONTENTS = {
    "empty": b"",
    "half": b'{"format": 1, "kind": ',
    "binary": bytes(range(256)),
    "list": b"[1, 2]",
    "deep": b"[" * 200_000,
    "number": b"9" * 10_000,
    "huge": b" " * (5 << 20),
}


@pytest.mark.parametrize("name", ["config.json", "result.json"])
@pytest.mark.parametrize("content", CONTENTS)
def test_files_of_rubbish_are_broken(tmp_path, name, content):
    folder = write_run(tmp_path, "a")
    (folder / name).write_bytes(CONTENTS[content])
    found = read_folder(folder)
    foreign = (content, name) == ("list", "config.json")  # a config that other programs may write
    assert found.state == ("foreign" if foreign else "broken")
    assert name in found.reason


@pytest.mark.parametrize("content", CONTENTS)
def test_metrics_of_rubbish_leave_the_result_alone(tmp_path, content):
    folder = write_run(tmp_path, "a")
    (folder / "metrics.jsonl").write_bytes(CONTENTS[content])
    run = read_folder(folder)
    assert run.costs.seconds_per_epoch == 50.0
    assert f"{1 if content == 'huge' else 2} of 2" in run.doubt


def test_a_result_that_the_metrics_cannot_vouch_for_is_doubted(tmp_path):
    folder = write_run(tmp_path, "a")
    assert read_folder(folder).doubt == ""
    first, _ = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text(first)
    assert "1 of 2" in read_folder(folder).doubt
    (folder / "metrics.jsonl").unlink()
    assert "metrics.jsonl" in read_folder(folder).doubt


@pytest.mark.parametrize("reason", ["", " ", 1, None])
def test_a_failure_without_a_reason_is_an_unfinished_run(tmp_path, reason):
    folder = write_run(tmp_path, "a", result=None)
    (folder / "failure.json").write_text(json.dumps({"reason": reason}))
    assert read_folder(folder).state == "unfinished"


def test_a_long_reason_is_cut(tmp_path):
    folder = write_run(tmp_path, "a", result=None)
    (folder / "failure.json").write_text(json.dumps({"reason": "word " * 100}))
    found = read_folder(folder)
    assert (found.state, found.reason[-1], len(found.reason) <= 300) == ("failed", "…", True)


def test_pipes_and_links_that_lead_nowhere_are_broken(tmp_path):
    for name in ("pipe", "loop", "gone"):
        (write_run(tmp_path, name) / "config.json").unlink()
    os.mkfifo(tmp_path / "pipe/config.json")
    (tmp_path / "loop/config.json").symlink_to("config.json")
    assert {read_folder(folder).state for folder in tmp_path.iterdir()} == {"broken"}


def test_a_result_alone_is_a_broken_run(tmp_path):
    folder = write_run(tmp_path, "a")
    for name in ("config.json", "metrics.jsonl"):
        (folder / name).unlink()
    found = read_folder(folder)
    assert found.state == "broken"
    assert "config.json" in found.reason


@pytest.mark.parametrize("config", [{"format": 2}, {"kind": []}, {"kind": "model"}])
def test_records_of_other_programs_are_foreign(tmp_path, config):
    assert read_folder(write_run(tmp_path, "a", **config)).state == "foreign"


def test_a_student_alone_has_no_teacher(tmp_path):
    found = read_folder(write_run(tmp_path, "a", method="none", teachers=[TEACHER]))
    assert isinstance(found, Skipped)
    assert "none" in found.reason


# --- costs and times ---


@pytest.mark.parametrize(
    ("seconds", "median"),
    [([3752.0, 459.0, 407.0], 459.0), ([90.0, 20.0], 20.0), ([90.0], 90.0), ([90.0, 20.0, 25.0, 21.0], 21.0)],
    ids=["a stop", "two epochs, the first of which compiles", "one epoch", "an even number"],
)
def test_costs_are_those_of_the_median_epoch(tmp_path, seconds, median):
    """Both of one epoch."""
    folder = write_run(tmp_path, "a")
    lines = [{"epoch": e, "seconds": s, "images_per_second": 50_000 / s} for e, s in enumerate(seconds, 1)]
    write_metrics(folder, lines)
    costs = read_folder(folder).costs
    assert costs.seconds_per_epoch == median
    assert costs.seconds_per_epoch * costs.images_per_second == pytest.approx(50_000)


def test_an_initial_stage_has_its_own_time(tmp_path):
    folder = write_run(tmp_path, "fsp")
    assert read_folder(folder).costs.initial_epochs == 0
    write_metrics(folder, [{"epoch": epoch, "seconds": 40.5} for epoch in (1, 2)], "initial_metrics.jsonl")
    costs = read_folder(folder).costs
    assert (costs.initial_epochs, costs.initial_seconds, costs.seconds_per_epoch) == (2, 81.0, 2.0)


@pytest.mark.parametrize(
    ("environment", "hardware"),
    [
        ({"device": "cpu", "processor": "Some CPU", "threads": 2}, "Some CPU, 2 threads"),
        ({"device": "GPU of a kind", "processor": "Some CPU"}, "GPU of a kind"),
        (["rubbish"], ""),
    ],
)
def test_hardware(tmp_path, environment, hardware):
    assert read_folder(write_run(tmp_path, "a", environment=environment)).costs.hardware == hardware


@pytest.mark.parametrize("finished", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "soon", 3])
def test_an_end_that_makes_no_sense_is_the_time_of_the_file(tmp_path, finished):
    assert read_folder(write_run(tmp_path, "a", mtime=1000, result={"finished": finished})).finished_at == 1000


ABSURD = [1.7e308, -3, 0, 5000, 1e-320, 10**400, float("nan"), True, "many", None, []]


@pytest.mark.parametrize("value", ABSURD, ids="{!r:.9}".format)
def test_absurd_numbers_of_one_run_are_left_empty_in_every_format(tmp_path, value):
    """Means of two such runs included; what a table can do without spoils neither it nor the figures beside it."""
    for trial in (1, 2):
        last = {"epoch": 2, "top1": 60.0, "top5": -0.5 if value in (0, 1e-320) else value}
        folder = write_run(
            tmp_path, f"kd{trial}", trial=trial, teachers=[{**TEACHER, "top5": last["top5"]}],
            result={"last": last, "best": last, "peak_memory_mib": value, "images_per_second": value, "epochs": value},
        )  # fmt: skip
        first = {"epoch": 1, "test": {"top1": last["top5"]}, "seconds": value, "images_per_second": value}
        write_metrics(folder, [first, {"epoch": 2, "test": {"top1": 60.0}}])
    write_run(tmp_path, "std", 61.0, method="std")
    report = build_report([str(tmp_path)])
    row = row_of(report.table, "kd")
    costs = row[["seconds_per_epoch", "images_per_second", "peak_memory_mib"]].astype(float)
    assert row.last_mean == 60.0
    if value == 5000:  # for a percentage only
        assert list(costs) == [5000.0] * 3
    else:
        assert costs.isna().all()
    assert np.isnan(row.top5_mean)
    assert np.isnan(row_of(report.table, "teacher").top5_mean)
    assert row_of(report.table, "std").peak_memory_mib == 100
    assert "1.7e+308" not in "".join(PRINTERS[name](report) for name in ("html", "json", "markdown"))


@pytest.mark.parametrize("name", sorted(PRINTERS))
def test_a_teacher_of_other_classes_has_no_accuracy_in_any_format(tmp_path, name):
    unknown = {**TEACHER, "top1": None, "top5": None, "loss": None}
    write_run(tmp_path, "none", 55.0, method="none")
    for trial in (1, 2):
        write_run(tmp_path, f"crd{trial}", 60.0 + trial, method="crd", trial=trial, teachers=[unknown])
    report = build_report([str(tmp_path)])
    assert np.isnan(row_of(report.table, "teacher").top1_mean)
    row = row_of(report.table, "crd")
    assert row.gain == pytest.approx(6.5)
    assert np.isnan(row.gap_recovered)
    text = PRINTERS[name](report)
    assert "crd" in text
    assert "NaN" not in text
    assert " nan" not in text


def test_one_of_two_checkpoints_may_have_no_accuracy(tmp_path):
    write_run(tmp_path, "a", method="crd", teachers=[{**TEACHER, "top1": None}])
    write_run(tmp_path, "b", method="pkt", teachers=[{**TEACHER, "sha256": "bb"}])
    row = row_of(build_report([str(tmp_path)]).table, "teacher")
    assert (row.top1_mean, row.n) == (72.63, 1)
