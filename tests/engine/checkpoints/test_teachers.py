"""Which teacher a run takes when no file is named: never one of several that differ, and what it is is said."""

import json
import os
import shutil

import pytest

from common.errors import RequestError
from engine.checkpoints.teachers import default_teacher, teacher_files
from engine.checkpoints.trained_teachers import teacher_runs
from models.published_checkpoints import PUBLISHED
from tests.helpers import folder_of, read_json, train, train_alone

ONE_EPOCH = ("--epochs", "1", "--batch_size", "433")


def trained(models, name, *, model="resnet56", dataset="cifar100", epochs=240, trial=1, top1=72.5):
    """What a finished run of train_teacher.py leaves that counts here; returns its weights."""
    folder = models / name
    folder.mkdir(parents=True)
    config = {"dataset": dataset, "model": model, "trial": trial, "recipe": {"epochs": epochs}}
    (folder / "config.json").write_text(json.dumps(config | {"protocol_id": f"epochs {epochs}"}))
    (folder / "result.json").write_text(json.dumps({"last": {"top1": top1}}))
    weights = folder / f"{model}_last.pth"
    weights.touch()
    return weights


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def no_network(monkeypatch):
    def fetch(teacher, output):
        raise RequestError(f"no connection to {teacher.url}")

    monkeypatch.setattr("engine.checkpoints.teachers.fetch", fetch)


def test_a_short_run_never_stands_in_for_the_real_one(tmp_path, models, no_network):
    real, smoke = trained(models, "b", epochs=240), trained(models, "a", epochs=1, top1=3.04)
    for model in (None, "resnet56"):
        with pytest.raises(RequestError) as refusal:
            default_teacher("cifar100", model, tmp_path)
        first, second = str(refusal.value).splitlines()
        for named in (str(smoke), "1 epoch", "3.04", str(real), "240 epochs", "72.50"):
            assert named in first
        assert "--path_t" in second


def test_of_several_networks_none_is_taken_unless_it_is_named(tmp_path, models):
    weights = {model: trained(models, model, model=model, dataset="digits") for model in ("resnet20", "resnet8")}
    with pytest.raises(RequestError, match=r"digits.*resnet20.*resnet8"):
        default_teacher("digits", None, tmp_path)
    for model in weights:
        assert default_teacher("digits", model, tmp_path) == weights[model]
    found = teacher_files("digits", list(weights), None, tmp_path, tmp_path)
    assert found == [(path, model) for model, path in weights.items()]


def test_of_several_trials_the_first_is_taken(tmp_path, models, capsys):
    weights = [trained(models, name, trial=trial) for name, trial in (("c", 10), ("b", 2), ("a", 3))]
    assert default_teacher("cifar100", None, tmp_path) == weights[1]
    (line,) = capsys.readouterr().out.splitlines()
    for named in ("resnet56", "trial 2", "--path_t"):
        assert named in line


def test_the_published_file_comes_first_and_the_other_is_named(tmp_path, models, capsys):
    own = trained(models, "own")
    assert default_teacher("cifar100", None, tmp_path) == own
    assert capsys.readouterr().out == ""
    published = models / next(teacher.file for teacher in PUBLISHED if teacher.model == "resnet56")
    published.touch()
    assert default_teacher("cifar100", "resnet56", tmp_path) == published
    (line,) = capsys.readouterr().out.splitlines()
    for named in ("resnet56", "--path_t", "240 epochs", str(own)):
        assert named in line


def test_cifar100_has_a_default_network(tmp_path, models, no_network):
    """One of another network that was trained here is not taken for it."""
    trained(models, "other", model="resnet20")
    with pytest.raises(RequestError, match=r"resnet56.*cifar100"):
        default_teacher("cifar100", None, tmp_path)


def test_an_unknown_network_is_named(tmp_path):
    with pytest.raises(RequestError, match="resnet57"):
        default_teacher("cifar100", "resnet57", tmp_path)


OF = b'{"dataset": "cifar100", "protocol_id": "x", "recipe": {"epochs": 1}, "trial": %s, "model": %s}'
HOSTILE = {
    "deep": b'{"a":' * 50_000,
    "deep and whole": OF % (b"1", b"[" * 900 + b"]" * 900),
    "infinite": OF % (b"Infinity", b'"resnet56"'),
    "elsewhere": OF % (b"1", b'"../good/resnet56"'),
    "NUL": OF % (b"1", rb'"a\u0000b"'),
    "long": OF % (b"1", b'"' + b"m" * 5000 + b'"'),
    "binary": b"\xff\xfe\xff",
}


def test_records_that_are_damaged_are_passed_over(tmp_path, models):
    weights = trained(models, "good")
    for name, content in (("list", "[]"), ("text", "{"), ("no_trial", '{"dataset": "cifar100", "model": "resnet56"}')):
        shutil.copytree(models / "good", models / name)
        (models / name / "config.json").write_text(content)
    for name, content in HOSTILE.items():
        (models / name).mkdir()
        (models / name / "config.json").write_bytes(content)
    (models / "pipe").mkdir()
    os.mkfifo(models / "pipe" / "config.json")
    (models / "good" / "result.json").unlink()
    (found,) = teacher_runs("cifar100", "resnet56", models)
    assert (found.weights, found.top1) == (weights, None)
    for named in ("resnet56", "240 epochs", str(weights)):
        assert named in str(found)


@pytest.mark.runs
def test_as_a_user_meets_it(tmp_path, capsys):
    """Two real teachers of different lengths: refused before anything else; with one of them: taken and printed."""
    output = tmp_path / "save"
    assert train_alone(output, *ONE_EPOCH) == 0
    first = folder_of(output)
    capsys.readouterr()
    assert train("kd", output=output, extra=ONE_EPOCH) == 0
    assert str(first / "resnet8_last.pth") in capsys.readouterr().out
    config = read_json(folder_of(output, "kd") / "config.json")
    assert config["teachers"][0]["path"] == str(first / "resnet8_last.pth")
    assert train_alone(output, "--epochs", "2", "--batch_size", "433") == 0
    capsys.readouterr()
    assert train("kd", output=output, extra=[*ONE_EPOCH, "--overwrite"]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert len(errors.splitlines()) == 2
    assert "1 epoch" in errors
    assert "2 epochs" in errors
