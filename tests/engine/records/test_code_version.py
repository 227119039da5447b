"""Which code made a run: the files that count, what is recorded of them, and what changed code leads to."""

import hashlib
import importlib.util
import json
import sys

import pytest
import torch

from distiller_zoo import METHODS, Method
from engine.records import code_version
from engine.records.code_version import changed_files, code_of
from engine.training.student_run import StudentRun
from tests.helpers import ROOT, folder_of, load, read_json, stop_at_step, train


def hashed(file):
    return hashlib.sha256((ROOT / file).read_bytes()).hexdigest()[:16]


def test_the_files_of_a_method_and_its_networks():
    files = ("distiller_zoo/kd.py", "models/mixer.py", "models/resnet.py")
    assert code_of("kd", ["mixer_pico", "resnet8"]) == {file: hashed(file) for file in files}


def test_a_method_that_inherits_from_another_has_both_files():
    (base,) = (cls for cls in METHODS["sdd_dkd"].__mro__[1:] if cls.__module__.endswith(".sdd"))
    assert issubclass(METHODS["sdd_dkd"], base)
    assert {"distiller_zoo/sdd.py", "distiller_zoo/method.py"} & code_of("sdd_dkd", []).keys() == {
        "distiller_zoo/sdd.py"
    }


def test_a_combination_is_all_its_parts_and_what_combines_them():
    both, parts = code_of("crd+dkd", ["resnet20"]), code_of("crd", ["resnet20"]) | code_of("dkd", ["resnet20"])
    assert parts.items() < both.items()
    assert both.keys() - parts.keys() == {"distiller_zoo/combination.py"}


def test_networks_of_timm_are_known_by_its_version():
    timm = pytest.importorskip("timm")
    assert code_of("none", ["timm:mixer_s32_224"])["timm"] == timm.__version__


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_own_file_on_record(method):
    assert f"{METHODS[method].__module__.replace('.', '/')}.py" in code_of(method, [])


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A method in a file outside the repository, registered; the file."""
    file = tmp_path / "my_method.py"
    file.write_text("from distiller_zoo import Method\n\n\nclass Mine(Method):\n    paper = 'none'\n")
    spec = importlib.util.spec_from_file_location("my_method", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "my_method", module)
    spec.loader.exec_module(module)
    assert issubclass(module.Mine, Method)
    with METHODS.temporarily({"mine": module.Mine}):
        yield file


def test_what_is_edited_later_is_not_what_runs(mine):
    """A process hashes a file once; the next process sees the edit."""
    before = code_of("mine", [])
    assert before.keys() == {"my_method.py"}
    mine.write_text(mine.read_text() + "# edited\n")
    assert code_of("mine", []) == before
    code_version._hash_of.cache_clear()
    assert changed_files(before, code_of("mine", [])) == ["my_method.py"]


def test_changed_files_are_those_that_differ_came_or_went():
    before, now = {"a.py": "1", "b.py": "2", "c.py": "3"}, {"a.py": "1", "b.py": "4", "d.py": "3"}
    assert changed_files(before, now) == ["b.py", "c.py", "d.py"]


# --- runs ---

KD = "distiller_zoo/kd.py"
OTHER = {KD: "0123456789abcdef"}
ONE = ["--epochs", "1"]


def start(output, teacher, *extra):
    return train("kd", output=output, teacher=teacher, extra=[*ONE, *extra])


@pytest.mark.runs
def test_a_finished_run_of_former_code_is_reported_and_overwrite_repeats_it(tmp_path, teacher, capsys):
    assert start(tmp_path, teacher) == 0
    path = folder_of(tmp_path) / "config.json"
    config = read_json(path)
    assert (config["code"], config["earlier_code"]) == (code_of("kd", ["resnet8"]), [])
    assert "sources" not in config
    config["code"] |= OTHER
    path.write_text(json.dumps(config))
    capsys.readouterr()
    assert start(tmp_path, teacher) == 0
    warning = capsys.readouterr().err
    assert KD in warning
    assert "--overwrite" in warning
    assert start(tmp_path, teacher, "--overwrite") == 0
    assert read_json(path)["earlier_code"] == []
    capsys.readouterr()
    assert start(tmp_path, teacher) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.runs
def test_of_several_runs_those_that_changed_are_repeated(tmp_path, teacher, monkeypatch, capsys):
    """The others are not touched, and the old result stays where it is until the new one is there."""

    def both(*extra):
        return train("none", "kd", output=tmp_path, teacher=teacher, extra=[*ONE, *extra])

    assert both() == 0
    alone, kd = folder_of(tmp_path, "none"), folder_of(tmp_path, "kd")
    config = read_json(kd / "config.json")
    config["code"] |= OTHER
    (kd / "config.json").write_text(json.dumps(config))
    former = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, 4)
        assert both("--overwrite", "changed") == 130
    assert {path: path.read_bytes() for path in former} == former
    assert load(kd / "repetition" / "checkpoint.pth")["position"] == [1, 5]
    capsys.readouterr()
    assert both() == 0  # the repetition continues, in whatever way the command is given
    assert "epoch 1, step 5" in capsys.readouterr().out
    assert read_json(kd / "config.json")["code"] == code_of("kd", ["resnet8"])
    assert {path.name for path in kd.iterdir() if path.is_dir()} == {"tensorboard"}
    assert all(path.read_bytes() == former[path] for path in alone.rglob("*") if path.is_file())


@pytest.mark.runs
def test_a_finished_run_of_an_earlier_version_is_of_unknown_code(tmp_path, teacher, capsys):
    assert start(tmp_path, teacher) == 0
    path = folder_of(tmp_path) / "config.json"
    config = read_json(path)
    del config["code"], config["earlier_code"]
    path.write_text(json.dumps(config | {"sources": OTHER, "earlier_sources": []}))
    capsys.readouterr()
    assert start(tmp_path, teacher) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.runs
def test_a_continued_run_has_all_code_that_trained_it(tmp_path, teacher, capsys):
    """It is refused without a word of the user's, and nothing is changed by that."""
    now = code_of("kd", ["resnet8"])
    first = now | OTHER
    with pytest.MonkeyPatch.context() as patch:
        stop_at_step(patch, 1, 3)
        patch.setattr("engine.training.student_run.code_of", lambda method, models: first)
        assert start(tmp_path, teacher) == 130
        patch.undo()
        capsys.readouterr()
        assert start(tmp_path, teacher) == 2
        refusal = capsys.readouterr().err
        assert len(refusal.splitlines()) == 2
        for word in (KD, "resnet8 kd, trial 1", "--overwrite changed", "--continue_changed"):
            assert word in refusal
        patch.setattr(StudentRun, "step", lambda *arguments: 1 / 0)  # code that takes no step has trained nothing
        assert start(tmp_path, teacher, "--continue_changed") == 1
        assert load(folder_of(tmp_path) / "checkpoint.pth")["code"] == [first]
        patch.undo()
        stop_at_step(patch, 1, 6)
        assert start(tmp_path, teacher, "--continue_changed") == 130
    assert KD in capsys.readouterr().err
    for code in (None, 0):  # as interrupted, and finished by the same code
        if code is not None:
            assert start(tmp_path, teacher) == code
            assert KD not in capsys.readouterr().err
        config = read_json(folder_of(tmp_path) / "config.json")
        assert (config["code"], config["earlier_code"]) == (now, [first])


@pytest.mark.runs
def test_a_run_of_changed_code_starts_anew_on_request(tmp_path, teacher, monkeypatch):
    """And is continued where it is interrupted after that, by the same command."""
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, 3)
        patch.setattr("engine.training.student_run.code_of", lambda method, models: OTHER)
        assert start(tmp_path, teacher) == 130
    for step, code in ((2, 130), (4, 130), (None, 0)):
        with monkeypatch.context() as patch:
            if step is not None:
                stop_at_step(patch, 1, step)
            assert start(tmp_path, teacher, "--overwrite", "changed") == code
            if step is not None:
                assert load(folder_of(tmp_path) / "checkpoint.pth")["position"] == [1, step + 1]
    config = read_json(folder_of(tmp_path) / "config.json")
    assert (config["code"], config["earlier_code"]) == (code_of("kd", ["resnet8"]), [])


def test_to_start_anew_and_to_continue_is_no_request(tmp_path, teacher, capsys):
    assert start(tmp_path, teacher, "--overwrite", "changed", "--continue_changed") == 2
    refusal = capsys.readouterr().err
    assert "--overwrite" in refusal
    assert "--continue_changed" in refusal


@pytest.mark.runs
def test_a_checkpoint_of_an_earlier_version_is_of_unknown_code(tmp_path, teacher, capsys):
    with pytest.MonkeyPatch.context() as patch:
        stop_at_step(patch, 1, 5)
        assert start(tmp_path, teacher) == 130
    path = folder_of(tmp_path) / "checkpoint.pth"
    state = load(path)
    assert state.pop("code") == [code_of("kd", ["resnet8"])]
    torch.save(state | {"trained_by": [OTHER]}, path)
    capsys.readouterr()
    assert start(tmp_path, teacher) == 0
    assert capsys.readouterr().err == ""
    config = read_json(folder_of(tmp_path) / "config.json")
    assert (config["code"], config["earlier_code"]) == (None, [])
