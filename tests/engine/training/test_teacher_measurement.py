"""Teachers are measured once; what a measurement depends on has it made again."""

import json
import shutil

import pytest
import torch

from engine.training import teacher_measurement
from engine.training.teacher_measurement import FILE
from tests.engine.training.few import TWO_STEPS, train_few
from tests.helpers import folder_of, load, read_json, stop_at_step

pytestmark = pytest.mark.runs
MEASURING = "measuring teacher resnet8 on 60 test images"


@pytest.fixture(scope="module")
def measured(teacher, tmp_path_factory):
    """An output root with a finished run, and with the accuracy of its teacher."""
    output = tmp_path_factory.mktemp("measured")
    assert start(output, teacher) == 0
    return output


@pytest.fixture
def output(measured, tmp_path):
    """A copy of its file alone."""
    shutil.copy(measured / FILE, tmp_path / FILE)
    return tmp_path


def start(output, teacher, *extra):
    return train_few("kd", output=output, teacher=teacher, small=TWO_STEPS, extra=["--epochs", "1", *extra])


def test_what_was_measured_is_recorded_alike(measured, output, teacher, capsys):
    capsys.readouterr()
    assert start(output, teacher) == 0
    out = capsys.readouterr().out
    assert "measuring" not in out
    assert f"teacher resnet8 ({teacher}): Acc@1" in out
    configs = [read_json(folder_of(place) / "config.json") for place in (measured, output)]
    assert configs[0]["teachers"] == configs[1]["teachers"]


def other_file(teacher, output, monkeypatch):
    content = load(teacher)
    content["model"]["fc.bias"] += 1.0
    torch.save(content, output / "other.pth")
    return output / "other.pth"


def other_code(teacher, output, monkeypatch):
    monkeypatch.setattr(teacher_measurement, "code_of", lambda method, models: {"models/resnet.py": "0"})


def other_precision(teacher, output, monkeypatch):
    content = read_json(output / FILE)
    content["teachers"][0]["conditions"]["precision"] = "bf16"
    (output / FILE).write_text(json.dumps(content))


def other_data(teacher, output, monkeypatch):
    monkeypatch.setattr("engine.training.run_plans.digest", lambda arrays: "0" * 64)


def a_folder(teacher, output, monkeypatch):
    (output / FILE).unlink()
    (output / FILE).mkdir()


def no_number(teacher, output, monkeypatch):
    (output / FILE).write_text((output / FILE).read_text().replace('"top1": ', '"top1": NaN, "former": '))


def no_json(teacher, output, monkeypatch):
    (output / FILE).write_text("{")


CHANGES = [other_file, other_code, other_precision, other_data, a_folder, no_number, no_json]
OF_OTHERS = ("", "[]", "[" * 100_000, "\x00", "NaN", '{"format": 1}', '{"format": 2, "teachers": []}')
OF_OTHERS += ('{"format": 1, "teachers": 3}', '{"format": 1, "teachers": [1, null]}')


@pytest.mark.parametrize("text", OF_OTHERS, ids=range(len(OF_OTHERS)))
def test_a_file_of_another_kind_has_no_entries(text, tmp_path):
    (tmp_path / FILE).write_text(text)
    assert teacher_measurement._entries(tmp_path / FILE) == []


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_measured_again(change, output, teacher, monkeypatch, capsys):
    """And kept: it is not measured when the run continues."""
    path = change(teacher, output, monkeypatch) or teacher
    stop_at_step(monkeypatch, 1, 0)
    assert start(output, path) == 130
    assert MEASURING in capsys.readouterr().out
    if (output / FILE).is_file():
        assert start(output, path) == 0
        assert "measuring" not in capsys.readouterr().out


def test_a_stop_while_teachers_are_measured(tmp_path, teacher, monkeypatch, capsys):
    """Nothing is changed, not even with --overwrite."""
    assert start(tmp_path, teacher) == 0
    (tmp_path / FILE).unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(teacher_measurement.Session, "stop_requested", lambda session: True)
    assert start(tmp_path, teacher, "--overwrite") == 130
    assert "teachers" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_size_of_teacher_and_student_is_recorded(measured, teacher):
    """Of the teacher in config.json, of the student in result.json, alike."""
    folder = folder_of(measured)
    (of_teacher,) = read_json(folder / "config.json")["teachers"]
    result = read_json(folder / "result.json")
    assert of_teacher["file_bytes"] == teacher.stat().st_size
    assert result["file_bytes"] == (folder / "resnet8_last.pth").stat().st_size
    for name in ("parameters", "head_parameters", "macs"):  # a resnet8 taught a resnet8
        assert of_teacher[name] == result[name]
    assert result["macs"] > result["parameters"] > 0
