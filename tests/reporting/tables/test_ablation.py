"""The table of named settings: what counts, gains, and a column for each head."""

import pytest

from reporting.tables.ablation import ablation_table
from tests.reporting.fake_runs import write_run


def folder(root, name, last, best=None, **heads):
    result = {"answers": {head: {"top1": top1} for head, top1 in heads.items()}} if heads else {}
    return write_run(root, name, last, best, result=result)


def cells_of(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_table(tmp_path):
    heads = {"class": 22.0, "distillation": 25.0, "average": 24.0, "confidence": 23.0}
    table = ablation_table(
        {
            "alone": [folder(tmp_path, "a", 20.0, 21.5), folder(tmp_path, "b", 22.0)],
            "std": [folder(tmp_path, "c", 24.0, **heads), tmp_path / "unfinished"],
            "none yet": [tmp_path / "nothing"],
        }
    )
    rows = cells_of(table)
    heading = ["setting", "trials", "top-1", "gain", "best epoch", "class", "distillation", "average", "confidence"]
    assert rows[0] == heading
    assert rows[2:] == [
        ["alone", "2 of 2", "21.00 ± 1.41", "", "21.75 ± 0.35", "", "", "", ""],
        ["std", "1 of 2", "24.00", "+3.00", "24.00", "22.00", "25.00", "24.00", "23.00"],
        ["none yet", "0 of 1", "", "", "", "", "", "", ""],
    ]


@pytest.mark.parametrize(
    "content", ['{"status": "fini', "[]", '{"status": "running", "last": {"epoch": 2, "top1": 99.0}}'], ids=str
)
def test_results_that_are_half_written_or_not_final_do_not_count(tmp_path, content):
    half = folder(tmp_path, "half", 60.0)
    (half / "result.json").write_text(content)
    rows = cells_of(ablation_table({"alone": [half], "std": [half, folder(tmp_path, "whole", 24.0)]}))
    assert rows[2:] == [["alone", "0 of 1", *[""] * 7], ["std", "1 of 2", "24.00", "", "24.00", *[""] * 4]]


def test_trials_of_former_code_are_no_repetitions(tmp_path):
    runs = [
        write_run(tmp_path, name, last, result={"finished": f"2026-01-0{day}T00:00:00"}, code={"std.py": digest})
        for day, (name, last, digest) in enumerate([("a", 60.0, "x"), ("b", 62.0, "y"), ("c", 64.0, "y")], 1)
    ]
    assert cells_of(ablation_table({"std": runs}))[2][:3] == ["std", "2 of 3", "63.00 ± 1.41"]


def test_heads_without_an_accuracy_are_left_empty(tmp_path):
    odd = [{"class": {"top1": 1e308}, "average": 5}, [1]]
    runs = [write_run(tmp_path, str(n), 60.0, result={"answers": answers}) for n, answers in enumerate(odd)]
    runs.append(folder(tmp_path, "good", 60.0, **{"class": 55.0}))
    assert cells_of(ablation_table({"std": runs}))[2] == [
        "std",
        "3 of 3",
        "60.00 ± 0.00",
        "",
        "60.00 ± 0.00",
        "55.00",
        *[""] * 3,
    ]
