"""compare.py: numbers against NumPy, what counts and what does not, every format, and the command as users run it."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reporting.formats.render import FORMATS, Report, latex, markdown, web

import compare
from common.errors import RequestError
from reporting.records.runs import Run, Skipped, Teacher, read_runs
from reporting.tables.table import COLUMNS, tabulate

SCRIPT = Path(compare.__file__)
TEACHER = {"model": "resnet56", "path": "t.pt", "sha256": "aa", "top1": 72.63, "top5": 91.9, "loss": 1.2}


def write_run(root, name, last=60.0, best=None, mtime=None, result=(), **config):
    """A run folder as the engine leaves it; `config` and `result` override fields, None removes the result."""
    folder = Path(root) / name
    folder.mkdir(parents=True)
    trial = config.get("trial", 1)
    method = config.get("method", "kd")
    whole = {
        "format": 1,
        "kind": "student",
        "dataset": "cifar100",
        "num_classes": 100,
        "image_size": 32,
        "model": "mixer_nano",
        "method": method,
        "label": method,
        "weights": {"gamma": 1.0, "alpha": 0.0, "beta": 0.0},
        "kd_T": 4.0,
        "options": {},
        "teachers": [] if method == "none" else [TEACHER],
        "trial": trial,
        "seed": trial,
        "recipe": {"name": "deit", "epochs": 2, "batch_size": 128},
        "precision": "fp32",
        "protocol": "deit, 2 epochs, batch 128, fp32",
        "protocol_id": "3f2a9c01",
        "run_id": name,
        "environment": {"device": "cpu"},
        **config,
    }
    best = last if best is None else best
    epochs = whole["recipe"]["epochs"]
    metrics = [
        {"epoch": 1, "train": {"loss": 2.0, "top1": 50.0}, "test": {"top1": best}, "seconds": 2.0},
        *(
            {"epoch": epoch, "train": {"loss": 1.0, "top1": 60.0}, "test": {"top1": last}, "seconds": 3.0}
            for epoch in range(2, epochs + 1)
        ),
    ]
    (folder / "config.json").write_text(json.dumps(whole))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    if result is not None:
        figures = {
            "status": "finished",
            "epochs": 2,
            "last": {"epoch": 2, "top1": last, "top5": 90.0, "loss": 1.0},
            "best": {"epoch": 1, "top1": best, "top5": 90.0, "loss": 1.0},
            "wall_seconds": 100.0,
            "images_per_second": 1e4,
            "peak_memory_mib": 100,
            "parameters": 1140000,
            "method_parameters": 12345,
        }
        (folder / "result.json").write_text(json.dumps({**figures, **dict(result)}))
        if mtime is not None:
            os.utime(folder / "result.json", (mtime, mtime))
    return folder


def write_suite(root):
    """Three trials of two methods and of the student alone, and one of a third method."""
    lasts = {"none": [55.1, 55.4, 54.9], "kd": [58.2, 58.9, 58.4], "std": [60.3, 60.1, 61.2]}
    for method, values in lasts.items():
        for trial, last in enumerate(values, 1):
            write_run(root, f"deep/er/{method}_{trial}", last, last + 0.5 * trial, method=method, trial=trial)
    write_run(root, "crd", 59.0, method="crd", label="crd alpha=1")
    return lasts


def build(root):
    runs, skipped = read_runs([root])
    return Report(*tabulate(runs), skipped)


def row_of(table, method, **where):
    for name, value in {"method": method, **where}.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def run_script(*args, cwd):
    command = [sys.executable, "-W", "error", str(SCRIPT), *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", timeout=60)


# --- numbers ---


def test_means_deviations_and_gain_agree_with_numpy(tmp_path):
    lasts = write_suite(tmp_path)
    table = build(tmp_path).table
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


def test_rows_stand_in_order_and_the_best_mean_is_bold(tmp_path):
    write_suite(tmp_path)
    report = build(tmp_path)
    assert list(report.table.method) == ["teacher", "none", "std", "crd alpha=1", "kd"]
    rows = [line for line in markdown(report).splitlines() if line.startswith("|")][2:7]
    assert [line.split("|")[1].strip() for line in rows] == [
        "teacher",
        "student alone",
        "**std**",
        "crd alpha=1",
        "kd",
    ]
    assert "**60.53 ± 0.59 (3)**" in rows[2]
    assert "*59.00 ± – (1)*" in rows[3].replace("**", "")
    assert "*58.50" not in rows[4]
    assert "+5.40" in rows[2]


def test_one_trial_has_no_deviation(tmp_path):
    write_run(tmp_path, "a", 61.25)
    report = build(tmp_path)
    assert np.isnan(row_of(report.table, "kd").last_std)
    assert "61.25 ± – (1)" in markdown(report)
    assert "61.25 ± -- (1)" in latex(report).replace(r"$\pm$", "±")


def test_teacher_row_counts_distinct_checkpoints(tmp_path):
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


def test_runs_on_different_bytes_of_a_data_set_are_remarked_on(tmp_path):
    write_run(tmp_path, "old", method="hint")  # from before the data was on record
    write_run(tmp_path, "a", data_sha256="a" * 64)
    assert build(tmp_path).notes == []
    write_run(tmp_path, "b", method="std", data_sha256="b" * 64)
    (note,) = build(tmp_path).notes
    assert "cifar100: the data differs" in note
    assert f"aaaaaaaa… in {tmp_path / 'a'}; bbbbbbbb… in {tmp_path / 'b'}" in note
    write_run(tmp_path, "more", trial=2, data_sha256="a" * 64)
    table = build(tmp_path).table
    assert {(row.group, row.method, row.n) for row in table.itertuples() if row.role == "method"} == {
        ("data aaaaaaaa", "kd", 2),
        ("data aaaaaaaa", "hint", 1),  # which does not say, and so is taken to have seen what most saw
        ("data bbbbbbbb", "std", 1),
    }
    assert "runs that do not say stand with the most" in build(tmp_path).notes[0]


def test_methods_with_different_teacher_checkpoints_are_remarked_on(tmp_path):
    write_run(tmp_path, "kd")
    write_run(tmp_path, "std", method="std", teachers=[{**TEACHER, "sha256": "bb"}])
    (note,) = build(tmp_path).notes
    assert "same teacher checkpoints" in note


def test_the_student_alone_belongs_to_every_pair_of_that_student(tmp_path):
    vgg = {**TEACHER, "model": "vgg13", "sha256": "cc"}
    write_run(tmp_path, "none", 50.0, method="none")
    write_run(tmp_path, "a", 53.0)
    write_run(tmp_path, "b", 54.0, teachers=[vgg])
    write_run(tmp_path, "c", 55.0, teachers=[vgg, TEACHER])
    write_run(tmp_path, "d", 40.0, model="resmlp_nano")
    table = build(tmp_path).table
    mixer = table[table.student == "mixer_nano"]
    assert set(mixer[mixer.role == "student"].teacher) == {"resnet56", "vgg13", "resnet56+vgg13"}
    assert list(mixer[mixer.role == "method"].sort_values("gain").gain) == [3.0, 4.0, 5.0]
    assert table[(table.student == "resmlp_nano") & (table.role == "method")].gain.isna().all()


def test_a_student_without_any_method_is_still_shown(tmp_path):
    write_run(tmp_path, "none", 50.0, method="none")
    page = markdown(build(tmp_path))
    assert "mixer_nano, no teacher" in page
    assert "student alone" in page


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
    assert markdown(report).count("## cifar10") - markdown(report).count("### cifar10") == 2


def test_networks_trained_alone_have_their_own_table(tmp_path):
    for trial, last in enumerate([72.0, 73.0], 1):
        write_run(tmp_path, f"t{trial}", last, kind="teacher", model="resnet56", teachers=[], trial=trial)
    write_run(tmp_path, "small", 50.0, kind="teacher", model="mixer_nano", teachers=[])
    write_run(tmp_path, "kd", 60.0)
    report = build(tmp_path)
    assert row_of(report.table, "", student="resnet56").last_mean == 72.5
    assert np.isnan(row_of(report.table, "kd").gain)
    page = markdown(report)
    assert page.index("### resnet56 → mixer_nano") < page.index("### networks trained alone")
    assert "72.50 ± 0.71 (2)" in page
    assert "1,140,000" in page


# --- what counts once, and what never counts ---


def test_a_copied_run_counts_once(tmp_path):
    shutil.copytree(write_run(tmp_path, "a", 60.0), tmp_path / "copy/of/a")
    report = build(tmp_path)
    assert row_of(report.table, "kd").n == 1
    assert report.notes == [f"copies of one run: counted {tmp_path}/copy/of/a, not {tmp_path}/a"]


def test_runs_of_one_name_and_different_methods_are_no_copies(tmp_path):
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
        pytest.param(
            [{"mtime": 2000, "result": {"finished": "soon"}}, {"mtime": 1000, "result": {"finished": 3}}],
            id="by the file's time, where the record makes no sense",
        ),
    ],
)
def test_of_two_runs_of_one_trial_the_last_to_finish_counts(tmp_path, times):
    write_run(tmp_path, "x", 70.0, **times[0])
    write_run(tmp_path, "y", 60.0, **times[1])
    report = build(tmp_path)
    assert (row_of(report.table, "kd").n, row_of(report.table, "kd").last_mean) == (1, 70.0)
    (note,) = report.notes
    assert note.startswith("duplicate trial: kd, resnet56 → mixer_nano on cifar100, trial 1")
    assert "note: duplicate trial" in markdown(report).replace("- note", "note")


def test_trials_of_one_seed_are_remarked_on(tmp_path):
    write_run(tmp_path, "a", trial=1, seed=7)
    write_run(tmp_path, "b", trial=2, seed=7)
    report = build(tmp_path)
    assert row_of(report.table, "kd").n == 2
    assert "trials 1, 2 share seed 7" in report.notes[0]


def test_roots_that_overlap_and_links_that_loop_are_read_once(tmp_path):
    folder = write_run(tmp_path, "runs/a")
    (folder / "loop").symlink_to(tmp_path)
    (tmp_path / "runs" / "self").symlink_to("self")
    runs, skipped = read_runs([tmp_path, tmp_path / "runs", folder])
    assert (len(runs), skipped) == (1, [])


def test_an_unfinished_run_is_listed_with_its_epoch(tmp_path):
    folder = write_run(tmp_path, "a", result=None)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "tr')
    write_run(tmp_path, "b", result={"status": "failed"})
    report = build(tmp_path)
    assert [(entry.state, entry.reason) for entry in sorted(report.skipped, key=lambda entry: entry.path)] == [
        ("unfinished", "no result yet (epoch 2 of 2)"),
        ("unfinished", "status failed (epoch 2 of 2)"),
    ]
    assert "No finished runs yet" in markdown(report)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"last": {"epoch": 2}}, "last: top1 is missing"),
        ({"last": {"epoch": 2, "top1": float("nan")}}, "not a percentage"),
        ({"last": {"epoch": 2, "top1": True}}, "not a percentage"),
        ({"last": {"epoch": 2, "top1": 10**400}}, "not a percentage"),
        ({"last": {"epoch": 1, "top1": 50.0}}, "its last epoch is 1, its recipe has 2"),
        ({"last": {"epoch": 99, "top1": 60.0}}, "its last epoch is 99, its recipe has 2"),
        ({"best": {"epoch": 1, "top1": 12.0}}, "top-1 of the best epoch is 12.00, of the last one 60.00"),
        (
            {"last": {"epoch": 2, "top1": 59.0}},
            "top-1 of the last epoch is 59.00 in result.json, 60.00 in metrics.jsonl",
        ),
        (
            {"best": {"epoch": 1, "top1": 99.9}},
            "top-1 of the best epoch is 99.90 in result.json, 60.00 in metrics.jsonl",
        ),
        ({"last": {"epoch": 2, "top1": 60.0, "loss": float("nan")}}, "loss is nan"),
        ({"best": None}, "best is not an object"),
        ({"parameters": "many"}, "parameters is not a whole number"),
        ({"status": 1}, "status is not a string"),
    ],
)
def test_a_result_with_bad_fields_is_broken(tmp_path, result, reason):
    write_run(tmp_path, "a", result=result)
    (entry,) = read_runs([tmp_path])[1]
    assert entry.state == "broken"
    assert reason in entry.reason
    assert "(epoch 2 of 2)" in entry.reason


@pytest.mark.parametrize("field", ["label", "dataset", "model"])
def test_nameless_rows_and_headings_are_broken(tmp_path, field):
    write_run(tmp_path, "a", **{field: " "})
    assert f"{field} is empty" in read_runs([tmp_path])[1][0].reason


def test_records_may_be_rounded(tmp_path):
    write_run(tmp_path, "a", result={"last": {"epoch": 2, "top1": 60.004}, "best": {"epoch": 2, "top1": 60.0}})
    assert [run.top1 for run in read_runs([tmp_path])[0]] == [60.004]


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
        lines = [
            {"epoch": 1, "test": {"top1": last["top5"]}, "seconds": value, "images_per_second": value},
            {"epoch": 2, "test": {"top1": 60.0}},
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_run(tmp_path, "std", 61.0, method="std")
    report = compare.build_report([str(tmp_path)])
    row = row_of(report.table, "kd")
    costs = row[["seconds_per_epoch", "images_per_second", "peak_memory_mib"]].astype(float)
    if value == 5000:  # for a percentage only
        assert (row.last_mean, *costs) == (60.0, 5000.0, 5000.0, 5000.0)
    else:
        assert row.last_mean == 60.0
        assert costs.isna().all()
    assert np.isnan(row.top5_mean)
    assert np.isnan(row_of(report.table, "teacher").top5_mean)
    assert row_of(report.table, "std").peak_memory_mib == 100
    pages = {name: render(report) for name, render in FORMATS.items()}
    assert "std (1 trial): 61.00 after epoch 2; kd (2 trials): 60.00 after epoch 2" in pages["html"]
    assert "1.7e+308" not in "".join(pages.values())


@pytest.mark.parametrize("finished", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_an_end_that_utc_does_not_know_is_the_time_of_the_file(tmp_path, finished):
    write_run(tmp_path, "a", mtime=1_700_000_000, result={"finished": finished})
    report = compare.build_report([str(tmp_path)])
    assert report.runs[0].finished_at == 1_700_000_000
    assert "2023-11-14 22:13" in web(report)


@pytest.mark.parametrize(
    ("seconds", "median"),
    [([3752.0, 459.0, 407.0], 459.0), ([90.0, 20.0], 20.0), ([90.0], 90.0), ([90.0, 20.0, 25.0, 21.0], 21.0)],
    ids=["a stop", "two epochs, the first of which compiles", "one epoch", "an even number"],
)
def test_an_epoch_costs_what_the_median_one_did_and_both_columns_are_of_that_one(tmp_path, seconds, median):
    folder = write_run(tmp_path, "a")
    lines = [{"epoch": e, "seconds": s, "images_per_second": 50_000 / s} for e, s in enumerate(seconds, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run,) = read_runs([tmp_path])[0]
    assert run.seconds_per_epoch == median
    assert run.seconds_per_epoch * run.images_per_second == pytest.approx(50_000)


@pytest.mark.parametrize("name", ["dataset", "model", "method", "label", "teachers", "trial", "recipe", "run_id"])
def test_a_config_without_a_field_is_broken(tmp_path, name):
    path = write_run(tmp_path, "a") / "config.json"
    config = json.loads(path.read_text())
    del config[name]
    path.write_text(json.dumps(config))
    (entry,) = read_runs([tmp_path])[1]
    assert (entry.state, f"{name} is missing" in entry.reason) == ("broken", True)


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
    (write_run(tmp_path, "a") / name).write_bytes(CONTENTS[content])
    runs, (entry,) = read_runs([tmp_path])
    foreign = (content, name) == ("list", "config.json")  # a config that other programs may write
    assert (runs, entry.state) == ([], "foreign" if foreign else "broken")
    assert name in entry.reason


@pytest.mark.parametrize("content", CONTENTS)
def test_metrics_of_rubbish_leave_the_result_alone(tmp_path, content):
    (write_run(tmp_path, "a") / "metrics.jsonl").write_bytes(CONTENTS[content])
    (run,), skipped = read_runs([tmp_path])
    assert (run.seconds_per_epoch, skipped) == (50.0, [])
    assert run.doubt == f"metrics.jsonl lacks {1 if content == 'huge' else 2} of 2 epochs"


@pytest.mark.parametrize("reason", ["", " ", 1, None])
def test_a_failure_that_says_nothing_is_an_unfinished_run(tmp_path, reason):
    folder = write_run(tmp_path, "a", result=None)
    (folder / "failure.json").write_text(json.dumps({"reason": reason}))
    assert read_runs([tmp_path])[1][0].state == "unfinished"


def test_a_long_reason_is_cut(tmp_path):
    folder = write_run(tmp_path, "a", result=None)
    (folder / "failure.json").write_text(json.dumps({"reason": "word " * 100}))
    ((_, state, reason),) = [dataclasses.astuple(entry) for entry in read_runs([tmp_path])[1]]
    assert (state, reason[-6:], len(reason) <= 300) == ("failed", "word …", True)


def test_a_result_that_the_metrics_cannot_vouch_for_is_remarked_on(tmp_path):
    folder = write_run(tmp_path, "a")
    first, _ = (folder / "metrics.jsonl").read_text().splitlines()
    for content, lack in ((first, "metrics.jsonl lacks 1 of 2 epochs"), (None, "metrics.jsonl is missing")):
        (folder / "metrics.jsonl").unlink()
        if content:
            (folder / "metrics.jsonl").write_text(content)
        report = build(tmp_path)
        assert report.notes == [f"{folder}: counted by its result alone, for {lack}"]
        assert row_of(report.table, "kd").n == 1


def test_pipes_links_and_missing_configs_are_broken(tmp_path):
    for name in ("pipe", "loop", "gone"):
        (write_run(tmp_path, name) / "config.json").unlink()
    os.mkfifo(tmp_path / "pipe/config.json")
    (tmp_path / "loop/config.json").symlink_to("config.json")
    runs, skipped = read_runs([tmp_path])
    assert (runs, {entry.state for entry in skipped}) == ([], {"broken"})
    assert len(skipped) == 3


def test_a_result_alone_is_a_broken_run(tmp_path):
    folder = write_run(tmp_path, "a")
    for name in ("config.json", "metrics.jsonl"):
        (folder / name).unlink()
    runs, (entry,) = read_runs([tmp_path])
    assert (runs, entry.state) == ([], "broken")
    assert entry.reason.startswith("config.json is missing")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folders_and_files_are_listed(tmp_path):
    (write_run(tmp_path, "file") / "result.json").chmod(0)
    folder = write_run(tmp_path, "folder")
    folder.chmod(0)
    try:
        skipped = read_runs([tmp_path])[1]
    finally:
        folder.chmod(0o700)
    assert sorted(entry.state for entry in skipped) == ["broken", "unreadable"]


def test_foreign_folders_are_listed_and_harmless(tmp_path):
    write_run(tmp_path, "a")
    write_run(tmp_path, "future", format=2)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert/config.json").write_text('{"architectures": ["BertModel"], "kind": []}')
    report = build(tmp_path)
    assert {entry.state for entry in report.skipped} == {"foreign"}
    assert len(report.skipped) == 2
    assert row_of(report.table, "kd").n == 1


def test_only_one_line_per_entry_even_for_hostile_names(tmp_path):
    write_run(tmp_path, "new\nline\x1b[31m", result=None)
    write_run(tmp_path, os.fsdecode(b"not-utf8-\xff"), label="a|b\n\ud800")
    report = build(tmp_path)
    page = markdown(report)
    page.encode()
    assert r"new\nline\x1b[31m" in page
    assert r"a\|b\n\ud800" in page
    for render in FORMATS.values():
        render(report).encode()


# --- formats ---


class Cells(HTMLParser):
    """The text of every table cell."""

    def __init__(self):
        super().__init__()
        self.found, self.inside = [], False

    def handle_starttag(self, tag, attrs):
        if tag in ("td", "th"):
            self.inside = True
            self.found.append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.found[-1] += data


def test_csv_and_json_hold_the_same_tidy_table(tmp_path):
    write_suite(tmp_path)
    report = build(tmp_path)
    from_csv = pd.read_csv(io.StringIO(FORMATS["csv"](report)), keep_default_na=False, na_values=[""])
    from_json = json.loads(FORMATS["json"](report))
    assert list(from_csv.columns) == list(from_json[0]) == COLUMNS
    assert list(from_csv.method) == [row["method"] for row in from_json] == list(report.table.method)
    np.testing.assert_allclose(from_csv.last_mean, report.table.last_mean, rtol=1e-12)
    np.testing.assert_allclose([row["last_mean"] for row in from_json], report.table.last_mean, rtol=1e-12)
    assert from_json[1]["trials"] == [1, 2, 3]
    assert from_json[1]["paths"] == row_of(report.table, "none").paths
    assert from_json[0]["gain"] is None
    assert from_csv.trials[1] == "1;2;3"


def test_html_is_whole_and_escaped(tmp_path):
    write_run(tmp_path, "<i>", 61.0, label="kd <script> & co")
    write_run(tmp_path, "<b>", result=None)
    page = web(build(tmp_path))
    parser = Cells()
    parser.feed(page)
    assert "kd <script> & co" in parser.found
    assert "61.00 ± – (1)" in parser.found
    assert "<script>" not in page
    assert "<b>: unfinished" not in page
    assert "http" not in page


def test_latex_is_booktabs_and_escaped(tmp_path):
    write_run(tmp_path, "a_b%", 61.0, label="kd_x 5% [α] *", mtime=1)
    write_run(tmp_path, "none", 62.5, method="none")
    page = latex(build(tmp_path))
    body = "\n".join(line for line in page.splitlines() if not line.startswith("%"))
    assert all(rule in body for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert r"kd\_x 5\% {[}U+03B1] {*}" in body
    assert r"mixer\_nano" in body
    assert r"\textbf{student alone}" in body
    assert "$-$1.50" in body
    assert body.isascii()
    assert body.count("{") == body.count("}")


def test_tables_fit_a_terminal_and_say_how_they_were_made(tmp_path):
    write_suite(tmp_path)
    write_run(tmp_path, "t", 72.0, kind="teacher", model="resnet56", teachers=[])
    page = markdown(build(tmp_path))
    assert max(map(len, page.splitlines())) <= 100
    assert "last epoch's test accuracy" in page
    assert "chosen on the test set" in " ".join(page.split())


# --- the command ---


def test_the_command_prints_the_table_of_the_default_root(tmp_path):
    write_suite(tmp_path / "save")
    write_run(tmp_path / "save", "z", result=None, method="pkt")
    done = run_script(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "## cifar100, 100 classes, 32×32: deit, 2 epochs, batch 128, fp32 [3f2a9c01]" in done.stdout
    assert "not counted: save/z: unfinished, no result yet (epoch 2 of 2)" in done.stdout


def test_data_formats_keep_remarks_off_the_output(tmp_path):
    write_run(tmp_path, "one/a", 60.0)
    write_run(tmp_path, "two/b", result=None)
    done = run_script("one", "--format", "csv", "two", cwd=tmp_path)
    assert done.returncode == 0
    assert list(pd.read_csv(io.StringIO(done.stdout)).columns) == COLUMNS
    assert done.stderr.startswith("not counted: two/b: unfinished")


def test_requests_that_cannot_be_met_exit_with_2_and_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for args, words in (
        ((), ("save does not exist", "train_student.py")),
        (("empty",), ("no runs below empty", "train_student.py")),
    ):
        done = run_script(*args, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert all(word in done.stderr for word in words)


def test_a_root_of_foreign_folders_has_no_runs(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RequestError, match="foreign"):
        compare.build_report([str(tmp_path)])


@pytest.mark.parametrize(
    ("suffix", "start"), [(".md", "## "), (".tex", "% "), (".csv", "dataset,"), (".json", "["), (".HTML", "<!DOCTYPE")]
)
def test_the_suffix_of_out_chooses_the_format(tmp_path, capsys, suffix, start):
    write_run(tmp_path, "runs/a")
    out = tmp_path / f"table{suffix}"
    for _ in range(2):  # the second time in the place of the first report
        assert compare.main([str(tmp_path / "runs"), "--out", str(out)]) == 0
        assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text(encoding="utf-8").startswith(start)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", out.name]


@pytest.mark.parametrize(
    "name", ["thesis.tex", "notes.md", "other.csv", "list.json", "page.html", "runs/a/result.json"]
)
def test_a_file_that_is_no_report_is_not_replaced_unasked(tmp_path, capsys, name):
    write_run(tmp_path, "runs/a")
    out = tmp_path / name
    own = {".csv": "dataset,model,acc\ncifar10,mine,90\n", ".json": '[\n  {\n    "dataset": "mine"\n  }\n]\n'}
    if not out.exists():
        out.write_text(own.get(out.suffix, "My own words, about reports that were generated."))
    before = out.read_bytes()
    assert compare.main([str(tmp_path / "runs"), "--out", str(out)]) == 2
    assert "is no report" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert compare.main([str(tmp_path / "runs"), "--out", str(out), "--overwrite"]) == 0
    assert out.read_bytes() != before


@pytest.mark.parametrize("of", ["runs", "nothing", "published", "literature"])
@pytest.mark.parametrize("name", FORMATS)
def test_any_report_may_be_replaced_by_the_next(tmp_path, name, of):
    write_run(tmp_path, "runs/a", result=None if of == "nothing" else ())
    words = ["results/published"] if of == "literature" else [str(tmp_path / "runs")]
    words += ["--published"] if of == "published" else []
    for _ in range(2):
        assert compare.main([*words, "--format", name, "--out", str(tmp_path / "report")]) == 0


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("missing/t.md", "the folder missing does not exist"),
        ("runs", "no format"),
        ("t.xyz", "no format"),
        ("", "no form"),
    ],
)
def test_an_out_that_cannot_be_written_exits_with_2(tmp_path, capsys, monkeypatch, out, reason):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, "runs/a")
    assert compare.main(["runs", "--out", out]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert reason in captured.err


def test_an_out_without_a_folder_is_refused_before_any_work(tmp_path, capsys):
    assert compare.main([str(tmp_path / "no runs"), "--out", str(tmp_path / "missing" / "t.md")]) == 2
    assert "the folder" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_place_that_takes_no_files_is_said_once(tmp_path, capsys):
    write_run(tmp_path, "a")
    assert compare.main([str(tmp_path), "--out", "/proc/t.md"]) == 2
    told = capsys.readouterr().err
    assert told.count("cannot") == 1
    assert "--data_folder" not in told


def test_out_may_be_a_folder_or_a_device(tmp_path, capsys):
    write_run(tmp_path, "runs/a")
    assert compare.main([str(tmp_path / "runs"), "--format", "csv", "--out", str(tmp_path)]) == 2
    assert "directory" in capsys.readouterr().err
    assert compare.main([str(tmp_path / "runs"), "--format", "csv", "--out", os.devnull]) == 0
    assert not Path(os.devnull).is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_the_output_is_one_line(tmp_path):
    write_run(tmp_path, "a")
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, SCRIPT, tmp_path], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    write_run(tmp_path, "a")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name != "posix", reason="closes the output by a shell")
def test_a_closed_output_is_one_line(tmp_path):
    write_run(tmp_path, "a")
    command = f'"{sys.executable}" "{SCRIPT}" "{tmp_path}" >&-'
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no standard output" in done.stderr


# --- properties ---

runs = st.builds(
    Run,
    path=st.uuids().map(str),
    kind=st.sampled_from(["student", "student", "teacher"]),
    dataset=st.just("cifar100"),
    num_classes=st.just(100),
    image_size=st.just(32),
    model=st.sampled_from(["a", "b"]),
    method=st.sampled_from(["none", "kd", "std"]),
    label=st.just(""),
    teachers=st.lists(st.sampled_from([Teacher("t", "x", 70.1), Teacher("t", "y", 71.3), Teacher("u", "z", 9.9)])).map(
        tuple
    ),
    trial=st.integers(1, 3),
    seed=st.integers(1, 2),
    run_id=st.sampled_from("pqrstuvw"),
    protocol=st.just("deit"),
    protocol_id=st.sampled_from(["1", "2"]),
    last_top1=st.floats(0, 100),
    last_top5=st.none() | st.floats(0, 100),
    best_top1=st.floats(0, 100),
    seconds_per_epoch=st.none() | st.floats(0, 100),
    parameters=st.integers(0, 10),
    method_parameters=st.none() | st.integers(0, 10),
    finished_at=st.integers(0, 3),
).map(lambda run: dataclasses.replace(run, label=run.method, teachers=() if run.method == "none" else run.teachers))


@settings(max_examples=20, deadline=None)
@given(st.lists(runs, max_size=12, unique_by=lambda run: run.path), st.randoms())
def test_the_order_of_runs_changes_nothing(found, random):
    table, notes = tabulate(found)
    shuffled = random.sample(found, len(found))
    again, notes_again = tabulate(shuffled)
    pd.testing.assert_frame_equal(table, again, check_exact=True)
    assert notes == notes_again
    for render in FORMATS.values():
        assert render(Report(table, notes, [Skipped("p", "foreign", "r")]))
