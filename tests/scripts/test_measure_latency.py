"""scripts/measure_latency.py: what it writes into folders of runs, what it leaves alone, and what it refuses."""

import json
import shutil

import pytest

from common.files import sha256_of
from reporting.records.latency import read_latency
from reporting.records.read_run import read_folder
from scripts import measure_latency
from tests.helpers import folder_of, read_json, save_network, train

pytestmark = pytest.mark.runs
ONE = ("--rounds", "1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An output root with kd and the student alone, and the teacher's file."""
    root = tmp_path_factory.mktemp("latency")
    save_network(root / "resnet14.pth", "resnet14")
    extra = ["--epochs", "1", "--model_t", "resnet14"]
    assert train("none", "kd", output=root / "save", teacher=root / "resnet14.pth", extra=extra) == 0
    return root


@pytest.fixture
def root(trained, tmp_path, monkeypatch):
    """A copy; the records name the teacher where it was trained."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def measure(*argv):
    return measure_latency.main([*map(str, argv), *ONE])


def test_a_run_is_measured_beside_its_teacher(root, capsys):
    assert measure("save") == 0
    folder, alone = folder_of("save", "kd"), folder_of("save", "none")
    found = read_json(folder / "latency.json")
    assert found["student_ms"] > 0
    assert found["ratio"] == pytest.approx(found["student_ms"] / found["teacher_ms"])
    assert found["weights"]["sha256"] == sha256_of(folder / "resnet8_last.pth")
    assert found["teachers"] == [{"model": "resnet14", "sha256": sha256_of(root / "resnet14.pth")}]
    assert (found["threads"], found["batch_size"], found["image_size"], found["rounds"]) == (1, 1, 8, 1)
    assert read_folder(folder).costs.latency == read_latency(folder)
    assert read_latency(folder).teacher == "resnet14"
    assert not (alone / "latency.json").exists()
    assert "--path_t" in capsys.readouterr().out


def test_students_alone_are_measured_beside_a_teacher_that_is_named(root):
    assert measure("save", "--path_t", "resnet14.pth") == 0
    assert read_latency(folder_of("save", "none")).teacher == "resnet14"


def test_the_folder_of_a_teachers_run_stands_for_its_weights(root):
    (root / "run").mkdir()
    (root / "resnet14.pth").rename(root / "run" / "resnet14_last.pth")
    assert measure("save", "--path_t", "run") == 0
    assert read_latency(folder_of("save", "none")).teacher == "resnet14"


def test_weights_that_were_measured_are_left_alone_unless_asked(root, capsys):
    assert measure("save") == 0
    target = folder_of("save", "kd") / "latency.json"
    first = target.read_bytes()
    target.write_bytes(first.replace(b'"rounds": 1', b'"rounds": 7'))
    marked = target.read_bytes()
    assert marked != first
    capsys.readouterr()
    assert measure("save") == 0
    assert "--overwrite" in capsys.readouterr().out
    assert target.read_bytes() == marked
    assert measure("save", "--overwrite") == 0
    assert read_json(target)["rounds"] == 1


def test_other_weights_are_measured_anew(root):
    assert measure("save") == 0
    folder = folder_of("save", "kd")
    content = read_json(folder / "latency.json")
    content["weights"]["sha256"] = "0" * 64
    (folder / "latency.json").write_text(json.dumps(content))
    assert measure("save") == 0
    assert read_json(folder / "latency.json")["weights"]["sha256"] == sha256_of(folder / "resnet8_last.pth")


@pytest.mark.parametrize("text", ["my own notes", "[]", '{"format": 2}'])
def test_a_file_of_somebody_else_is_kept(root, capsys, text):
    target = folder_of("save", "kd") / "latency.json"
    target.write_text(text)
    assert measure("save") == 0
    assert target.read_text() == text
    assert "--overwrite" in capsys.readouterr().out
    assert measure("save", "--overwrite") == 0
    assert read_json(target)["format"] == 1


def test_a_teacher_that_has_moved_is_named(root, trained, capsys):
    folder = folder_of("save", "kd")
    config = read_json(folder / "config.json")
    config["teachers"][0]["path"] = "elsewhere.pth"
    (folder / "config.json").write_text(json.dumps(config))
    assert measure("save") == 0
    assert not (folder / "latency.json").exists()
    assert "elsewhere.pth" in capsys.readouterr().out
    assert measure("save", "--path_t", "resnet14.pth") == 0
    assert read_latency(folder).teacher == "resnet14"


def test_a_run_without_weights_is_left_out(root, capsys):
    folder = folder_of("save", "kd")
    (folder / "resnet8_last.pth").unlink()
    (folder / "resnet8_best.pth").unlink()
    assert measure("save") == 0
    assert not (folder / "latency.json").exists()
    assert "left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["nowhere"], "nowhere"),
        (["empty"], "empty"),
        (["save", "--path_t", "nowhere.pth"], "nowhere.pth"),
        (["save", "--threads", "0"], "--threads"),
        (["save", "--rounds", "-1"], "--rounds"),
    ],
)
def test_wrong_requests_end_before_anything_is_measured(root, monkeypatch, capsys, argv, named):
    (root / "empty").mkdir()
    monkeypatch.setattr(measure_latency, "measure_in_turns", None)
    assert measure_latency.main(argv) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert named in errors
    assert len(errors.splitlines()) <= 2
