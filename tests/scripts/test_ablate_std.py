"""scripts/ablate_std.py: its rows are settings that work, and it trains them and prints their table."""

import pytest

from distiller_zoo import Pair, create_method
from models import create_model
from scripts import ablate_std
from tests.helpers import folders_of, save_network


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


SMALL = ("--dataset", "digits", "--model_s", "mixer_pico", "--recipe", "light", "--device", "cpu", "--epochs", "1")
SMALL += ("--batch_size", "260", "--rows", "main")


@pytest.mark.runs
def test_it_trains_all_rows_once_and_prints_their_table(tmp_path, capsys):
    """Both trials of the short form in two groups; the second time nothing is left to do."""
    save_network(tmp_path / "teacher.pth")
    words = [*SMALL, "--path_t", str(tmp_path / "teacher.pth"), "--output", str(tmp_path / "save")]
    assert ablate_std.main([*words, "--out", str(tmp_path / "table.md")]) == 0
    done = capsys.readouterr()
    table = (tmp_path / "table.md").read_text()
    assert done.out.endswith(table)
    assert table.count("2 of 2") == len(folders_of(tmp_path / "save")) // 2 == 5
    assert done.out.count("teacher resnet8 (") == 2  # one pass of the teacher for all rows of a trial
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "save").rglob("metrics.jsonl")}
    assert ablate_std.main(words) == 0
    assert capsys.readouterr().out.endswith(table)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "save").rglob("metrics.jsonl")}


def test_a_table_that_exists_is_kept(tmp_path, capsys):
    out = tmp_path / "table.md"
    out.write_text("mine")
    assert ablate_std.main(["--dataset", "digits", "--out", str(out)]) == 2
    assert "--out" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_torchrun_is_refused(capsys, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert ablate_std.main(["--dataset", "digits"]) == 2
    assert "torchrun" in capsys.readouterr().err


def test_a_third_teacher_is_refused(tmp_path, capsys):
    save_network(tmp_path / "t.pth")
    assert ablate_std.main(["--dataset", "digits", "--path_t", *[str(tmp_path / "t.pth")] * 3]) == 2
    assert "--path_t" in capsys.readouterr().err
