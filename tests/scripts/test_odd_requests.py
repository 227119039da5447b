"""Requests that nobody wrote on purpose: flags and values drawn at random, for every script at the top.

Each ends with exit code 0 or 2; a refusal is one or a few short lines without a traceback, and the files that lie
around stay what they were. Training is replaced by nothing, all that comes before it is real.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import compare
import evaluate
import train_student
import train_teacher
import transfer_student
from common.command import make_parser
from engine.training import run_plans
from engine.training.failures import Outcome
from tests.helpers import save_network

HERE = ["--dataset", "digits", "--device", "cpu", "--precision", "fp32"]
# What every request of a script has, so that most of them reach the checks behind the parser.
SCRIPTS: dict[ModuleType, list[str]] = {
    train_teacher: ["--model", "resnet8", *HERE],
    train_student: ["--model_s", "resnet8", "--path_t", "teacher.pth", *HERE],
    transfer_student: ["--path_s", "teacher.pth", *HERE],
    evaluate: ["--path", "teacher.pth", *HERE],
    compare: [],
}
NUMBERS = [
    "0",
    "1",
    "2",
    "-1",
    "0.5",
    "-0.0",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "1e-400",
    "9" * 400,
    "1_0",
    "½",
    "٣",
    "0x10",
]
TEXTS = [
    "",
    " ",
    "a",
    "none",
    "kd",
    "std",
    "kd+crd",
    "+",
    "kd*",
    "*",
    "all",
    "a" * 300,
    "é" * 200,
    "a\nb",
    "\x1b[31m",
    "=1",
    "\udcff",
]
PATHS = [
    ".",
    "/",
    "..",
    "teacher.pth",
    "notes.txt",
    "empty",
    "folder",
    "loop",
    "missing/x",
    "/dev/null",
    "/dev/zero",
    "~",
]
NAMES = [
    "resnet8",
    "mixer_pico",
    "digits",
    "cifar100",
    "folder:photos",
    "folder:",
    "timm:",
    "timm:resnet18",
    "repdistiller",
]
VALUES = st.one_of(*(st.sampled_from(kind) for kind in (NUMBERS, TEXTS, PATHS, NAMES)), st.text(max_size=8))
# Downloads are no part of this, and these flags reach for more time or memory than a test has.
LEFT_OUT = {"help", "data_folder", "list"}


def actions_of(script: ModuleType) -> list[argparse.Action]:
    """The flags of a script, hidden ones included."""
    parsers = []

    def remembered(*arguments: object) -> argparse.ArgumentParser:
        parsers.append(make_parser(*arguments))
        return parsers[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "make_parser", remembered)
        script.parse(SCRIPTS[script])
    return [action for action in parsers[0]._actions if action.option_strings and action.dest not in LEFT_OUT]


def words_of(actions: list[argparse.Action]) -> st.SearchStrategy[list[str]]:
    """A flag with values: often as many as it takes, and of its choices where it has some."""

    @st.composite
    def drawn(draw: Callable) -> list[str]:
        action = draw(st.sampled_from(actions))
        flag = draw(st.sampled_from(action.option_strings))
        if action.nargs == 0:
            return [flag] * draw(st.sampled_from([1, 1, 1, 2]))
        values = VALUES if not action.choices else st.one_of(st.sampled_from(list(map(str, action.choices))), VALUES)
        most = 3 if action.nargs in ("+", "*") else 1
        given = draw(st.lists(values, min_size=1, max_size=most))
        return [f"{flag}={given[0]}"] if draw(st.booleans()) and len(given) == 1 else [flag, *given]

    return drawn()


@contextmanager
def place(root: Path) -> Iterator[dict[str, bytes]]:
    """A folder to stand in with files of a user, whose contents are given."""
    folder = root / "place"
    folder.mkdir(exist_ok=True)
    save_network(folder / "teacher.pth")
    (folder / "notes.txt").write_text("what I must not lose\n")
    (folder / "empty").write_bytes(b"")
    (folder / "folder").mkdir(exist_ok=True)
    if not (folder / "loop").is_symlink():
        (folder / "loop").symlink_to("loop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(run_plans, "train_groups", lambda *_: Outcome())
        yield {name: (folder / name).read_bytes() for name in ("teacher.pth", "notes.txt", "empty")}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("odd")


@pytest.mark.runs
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_odd_requests_are_done_or_refused(script, root, capfd):
    check_requests(script, root, capfd, examples=60)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_many_odd_requests_are_done_or_refused(script, root, capfd):
    check_requests(script, root, capfd, examples=1500)


def check_requests(script: ModuleType, root: Path, capfd: pytest.CaptureFixture, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples < 1000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(words_of(actions_of(script)), min_size=1, max_size=3))
    def check(flags: list[list[str]]) -> None:
        argv = [*SCRIPTS[script], *(word for words in flags for word in words)]
        with place(root) as before:
            try:
                status = script.main(argv)
            except SystemExit as stop:  # of argparse
                status = stop.code
            for name, content in before.items():
                assert Path(name).read_bytes() == content, f"{argv} has changed {name}"
        errors = capfd.readouterr().err
        assert status in (0, 2), f"{argv} ended with {status}: {errors}"
        if status == 2:
            lines = errors.strip().splitlines()
            assert any(line.startswith("error: ") for line in lines), argv
            assert len(lines) <= 6, f"{argv}: {errors}"
            assert max(map(len, lines)) <= 600, f"{argv}: {errors}"

    check()
