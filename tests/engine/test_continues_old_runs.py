"""Runs that an earlier version of the suite began and did not finish: this one goes on where they stopped."""

import contextlib
import io
import json
import re
import shutil

import pytest

import train_student
from tests.helpers import ROOT, load, read_json, read_metrics

FIXTURE = ROOT / "tests" / "fixtures" / "unfinished_run"
EXPECTED = read_json(FIXTURE / "expected.json")
METHODS = tuple(EXPECTED["runs"])
# Processors round differently, and half an epoch of training magnifies that; a wrong state is farther off.
NEAR = {"train": {"rel": 1e-3}, "loss": {"rel": 1e-2}, "accuracy": {"abs": 1.0}}


def command_in(folder):
    """The command that began the runs, for copies of their output and teacher that lie in `folder`."""
    script, *words = EXPECTED["command"].split()
    assert script == "train_student.py"
    moved = {"teacher.pth": str(folder / "teacher.pth"), "save": str(folder / "save")}
    return [moved.get(word, word) for word in words]


@pytest.fixture(scope="module")
def continued(tmp_path_factory):
    """Copies of the runs and their teacher, continued by the same command to the end: their place, and what it said."""
    folder, said = tmp_path_factory.mktemp("continued") / "elsewhere", io.StringIO()
    shutil.copytree(FIXTURE, folder)
    with contextlib.redirect_stdout(said):
        assert train_student.main(command_in(folder)) == 0
    return folder / "save", said.getvalue()


@pytest.fixture(params=METHODS)
def run(request, continued):
    """Of one method: the run's folder, what it held when it was cut off, and what is expected of it."""
    expected = EXPECTED["runs"][request.param]
    return continued[0] / expected["folder"], FIXTURE / "save" / expected["folder"], expected


def test_no_run_is_begun_beside_them(continued):
    output, _ = continued
    found = {path.relative_to(output).as_posix() for path in output.glob("*/*")}
    assert found == {expected["folder"] for expected in EXPECTED["runs"].values()}


def test_the_fixture_is_cut_amid_an_epoch(run):
    _, before, expected = run
    state = load(before / "checkpoint.pth")
    assert state["position"] == [EXPECTED["cut_at"]["epoch"], EXPECTED["cut_at"]["step"]]
    assert state["run_id"] == expected["run_id"]
    assert len(read_metrics(before)) == 1
    assert not (before / "result.json").exists()


def test_it_says_where_it_goes_on(continued):
    _, said = continued
    told = re.findall(r"\(continues at epoch (\d+), step (\d+)\)", said)
    assert told == [(str(EXPECTED["cut_at"]["epoch"]), str(EXPECTED["cut_at"]["step"]))] * len(METHODS)


def test_what_was_recorded_stays(run):
    """Times too, which another first epoch would not have to the millisecond."""
    folder, before, _ = run
    first, _ = (folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads(first) == read_metrics(before)[0]


def test_the_identity_is_the_same_wherever_the_teacher_lies(run):
    folder, before, expected = run
    config, former = read_json(folder / "config.json"), read_json(before / "config.json")
    assert folder.name.endswith(expected["run_id"])
    identity = ("run_id", "label", "protocol_id")
    assert {key: config[key] for key in identity} == {key: expected[key] for key in identity}
    assert config["teachers"][0]["path"] != former["teachers"][0]["path"]
    assert (config["code"], config["earlier_code"]) == (None, [])  # what trained it first is unknown
    changing = ("environment", "sources", "earlier_sources", "code", "earlier_code", "recipe_changes", "teachers")
    first, now = ({key: value for key, value in content.items() if key not in changing} for content in (former, config))
    assert {key: now[key] for key in first} == first  # and what later versions record beside it


def test_it_is_finished(run):
    folder, _, expected = run
    result = read_json(folder / "result.json")
    assert (result["status"], result["last"]["epoch"]) == ("finished", expected["epoch"])
    assert result["best"]["epoch"] == expected["best_epoch"]
    for count in ("parameters", "method_parameters"):
        assert result[count] == expected[count]
    left = {path.name for path in folder.iterdir()}
    assert left == {
        "config.json", "metrics.jsonl", "result.json", "tensorboard", "resnet8_best.pth", "resnet8_last.pth",
    }  # fmt: skip


def test_it_ends_where_the_earlier_version_ended(run):
    """The means of the epoch are over steps before the cut and after it."""
    folder, _, expected = run
    last = read_metrics(folder)[-1]
    assert last["epoch"] == expected["epoch"]
    assert last["learning_rate"] == pytest.approx(expected["learning_rate"])
    assert expected["test"].keys() <= last["test"].keys()  # later versions record more
    for name in ("top1", "top5"):
        assert last["test"][name] == pytest.approx(expected["test"][name], **NEAR["accuracy"])
    assert last["test"]["loss"] == pytest.approx(expected["test"]["loss"], **NEAR["loss"])
    losses = {name: value for name, value in expected["train"].items() if name != "top1"}
    assert last["train"].keys() == expected["train"].keys()
    assert {name: last["train"][name] for name in losses} == pytest.approx(losses, **NEAR["train"])
    assert last["train"]["top1"] == pytest.approx(expected["train"]["top1"], **NEAR["accuracy"])
