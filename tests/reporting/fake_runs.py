"""Folders of runs as the engine leaves them, without training, and reports of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import compare
from reporting.records.runs import read_runs
from reporting.records.selection import entries_of
from reporting.tables.notes import notes_on
from reporting.tables.repetitions import count_once
from reporting.tables.report import Report, text_tables
from reporting.tables.table import tabulate

SCRIPT = Path(compare.__file__)
TEACHER = {"model": "resnet56", "path": "t.pt", "sha256": "aa", "top1": 72.63, "top5": 91.9, "loss": 1.2}
VGG = {**TEACHER, "model": "vgg13", "sha256": "cc"}


def write_run(root, name, last=60.0, best=None, mtime=None, result=(), **config):
    """A run folder of two epochs; `config` and `result` override fields, None removes the result."""
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
    lines = [{"epoch": 1, "train": {"loss": 2.0, "top1": 50.0}, "test": {"top1": best}, "seconds": 2.0}]
    lines += [
        {"epoch": epoch, "train": {"loss": 1.0, "top1": 60.0}, "test": {"top1": last}, "seconds": 3.0}
        for epoch in range(2, whole["recipe"]["epochs"] + 1)
    ]
    (folder / "config.json").write_text(json.dumps(whole))
    write_metrics(folder, lines)
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


def write_latency(folder, student_ms, teacher_ms, processor="Some CPU", threads=1, teachers=("resnet56",)):
    """A run's latency.json, as far as it is read."""
    content = {"format": 1, "student_ms": student_ms, "teacher_ms": teacher_ms, "processor": processor}
    content |= {"threads": threads, "teachers": [{"model": name, "sha256": "aa"} for name in teachers]}
    (folder / "latency.json").write_text(json.dumps(content))


def write_metrics(folder, lines, name="metrics.jsonl"):
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_suite(root):
    """Three trials of two methods and of the student alone, and one of a third method; the figures by method."""
    lasts = {"none": [55.1, 55.4, 54.9], "kd": [58.2, 58.9, 58.4], "std": [60.3, 60.1, 61.2]}
    for method, values in lasts.items():
        for trial, last in enumerate(values, 1):
            write_run(root, f"deep/er/{method}_{trial}", last, last + 0.5 * trial, method=method, trial=trial)
    write_run(root, "crd", 59.0, method="crd", label="crd alpha=1")
    return lasts


def write_pairs(root):
    """kd, crd and std on two pairs, std on a third as well; the figures by (teacher, method)."""
    figures = {
        ("a", "none"): 60.0,
        ("a", "kd"): 62.0,
        ("a", "crd"): 64.0,
        ("a", "std"): 63.0,
        ("b", "none"): 60.0,
        ("b", "kd"): 61.0,
        ("b", "crd"): 60.5,
        ("b", "std"): 63.0,
        ("c", "none"): 60.0,
        ("c", "std"): 70.0,
    }
    for (teacher, method), top1 in figures.items():
        if method == "none":
            write_run(root, f"{teacher}-{method}", top1, method=method, run_id="alone", trial=1)
        else:
            write_run(root, f"{teacher}-{method}", top1, method=method, teachers=taught_by(teacher))
    return figures


def taught_by(teacher):
    """The `teachers` of a run that one network taught."""
    return [{**TEACHER, "model": teacher, "sha256": teacher}]


def tabulated(runs):
    """The tidy table of runs, and all notes on them."""
    counted, notes = count_once(entries_of(runs))
    return tabulate(counted), notes + notes_on(counted)


def build(root):
    """The report of all runs below a folder."""
    runs, skipped = read_runs([root])
    return Report(*tabulated(runs), skipped)


def tables_of(report, top=None):
    """The tables for people by title."""
    return {table.title: table for table in text_tables(report.table, top)}


def row_of(table, method, **where):
    """The one row of a tidy table with these values."""
    for name, value in {"method": method, **where}.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def run_script(*args, cwd):
    """compare.py in a process of its own, where any warning is an error."""
    command = [sys.executable, "-W", "error", str(SCRIPT), *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", timeout=60)
