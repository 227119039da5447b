"""The ablation of STD: its rows are settings that work, its table is right, and the script runs as a user runs it."""

import pytest
from reporting.formats.output import SIGNED

from distiller_zoo import Pair, create_method
from models import create_model
from reporting.tables.ablation import ablation_table
from scripts import ablate_std
from tests.helpers import folders_of, run_script, save_network
from tests.reporting.test_compare import write_run


def folder(root, name, last, best=None, **answers):
    result = {"answers": {head: {"top1": top1} for head, top1 in answers.items()}} if answers else {}
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
        write_run(tmp_path, name, last, result={"finished": f"2026-01-0{day}T00:00:00"}, sources={"std.py": digest})
        for day, (name, last, digest) in enumerate([("a", 60.0, "x"), ("b", 62.0, "y"), ("c", 64.0, "y")], 1)
    ]
    assert cells_of(ablation_table({"std": runs}))[2][:3] == ["std", "2 of 3", "63.00 ± 1.41"]


def test_answers_that_are_no_accuracy_are_left_empty(tmp_path):
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


@pytest.mark.parametrize("row", ablate_std.ROWS, ids=lambda row: row.name)
def test_every_row_is_a_setting_that_works(row):
    shapes = create_model("mixer_nano").feature_shapes()
    teachers = (create_model("resnet8").feature_shapes(),) * len(row.teachers)
    create_method(row.method, Pair(shapes, teachers, 100), row.options)


def test_names_and_settings_are_distinct():
    assert len({row.name for row in ablate_std.ROWS}) == len(ablate_std.ROWS)
    assert len({(row.method, *sorted(row.options.items()), row.teachers) for row in ablate_std.ROWS}) == len(
        ablate_std.ROWS
    )


def test_one_teacher_leaves_out_what_needs_two():
    one, two = ablate_std.chosen_rows(False, 1), ablate_std.chosen_rows(False, 2)
    assert two == list(ablate_std.ROWS)
    assert {row.teachers for row in one} == {(), (-1,)}
    assert [row.name for row in ablate_std.chosen_rows(True, 1)] == [row.name for row in ablate_std.ROWS[:5]]


def test_as_a_user_runs_it(tmp_path):
    """Both trials of the short form in two groups; the second time nothing is left to do."""
    save_network(tmp_path / "teacher.pth")
    small = ["--dataset", "digits", "--model_s", "mixer_pico", "--recipe", "light", "--device", "cpu"]
    small += ["--epochs", "1", "--batch_size", "260", "--path_t", tmp_path / "teacher.pth", "--rows", "main"]
    argv = ["scripts/ablate_std.py", *small, "--output", tmp_path / "save", "--out", tmp_path / "table.md"]
    done = run_script(*argv)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "table.md").read_text().removesuffix(SIGNED["markdown"])
    assert done.stdout.endswith(table)
    assert table.count("2 of 2") == len(folders_of(tmp_path / "save")) // 2 == 5
    assert done.stdout.count("teacher resnet8") == 2  # one pass of the teacher for all rows of a trial
    again = run_script(*argv)
    assert again.returncode == 0, again.stderr
    assert again.stdout.endswith(table)
    assert "epoch" not in again.stdout.removesuffix(table)


def test_torchrun_is_refused(capsys, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert ablate_std.main(["--dataset", "digits"]) == 2
    assert capsys.readouterr().err.endswith("start it with python, not torchrun\n")


def test_a_third_teacher_is_refused(tmp_path):
    save_network(tmp_path / "t.pth")
    done = run_script("scripts/ablate_std.py", "--dataset", "digits", "--path_t", *[tmp_path / "t.pth"] * 3)
    assert done.returncode == 2
    assert done.stderr.startswith("error: 3 teachers are named; give one, or a small and a large one")
