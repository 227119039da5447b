"""What a script does to its process, and that it does it to no other."""

import os
import runpy
import signal
import sys

import pytest

from common import script
from common.signals import STOP_SIGNALS
from tests.helpers import ROOT


@pytest.mark.parametrize(
    ("words", "path", "own"),
    [
        (["python", "train_student.py", "--list"], "train_student.py", True),
        (["python", "-u", str(ROOT / "train_student.py")], "train_student.py", True),
        (["python", "scripts/../scripts/analyse.py"], "scripts/analyse.py", True),
        (["python", "-m", "engine.checkpoints.teachers"], "engine/checkpoints/teachers.py", True),
        (["python", "-m", "train_student"], "train_student.py", True),
        (["python", "-m", "ipykernel_launcher", "-f", "kernel.json"], "train_student.py", False),
        (["python", "-m", "pytest", "train_student"], "train_student.py", False),
        (["python", "own.py", "--run", "train_student"], "train_student.py", False),
        (["python"], "train_student.py", False),
    ],
)
def test_whose_process_it_is(words, path, own, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "orig_argv", words)
    monkeypatch.setattr(script, "exit_on_stop_signals", lambda: begun.append(path))
    begun = []
    script.begin(str(ROOT / path))
    assert bool(begun) == own


def test_a_script_that_another_program_runs_leaves_its_process_alone(monkeypatch, capsys):
    """As a notebook's %run does, and twice."""
    monkeypatch.setattr(sys, "argv", ["train_student.py", "--list"])
    before = [signal.getsignal(signum) for signum in STOP_SIGNALS]
    for _ in range(2):
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / "train_student.py"), run_name="__main__")
        assert stopped.value.code == 0
        assert [signal.getsignal(signum) for signum in STOP_SIGNALS] == before
    assert "crd" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="made for POSIX")
def test_a_signal_after_the_end_changes_nothing(monkeypatch):
    former = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
    monkeypatch.setattr(sys, "orig_argv", ["python", __file__])
    try:
        with pytest.raises(SystemExit) as stopped:
            script.run(lambda: 3, __file__)
        for signum in STOP_SIGNALS:
            signal.raise_signal(signum)
    finally:
        for signum, handler in former.items():
            signal.signal(signum, handler)
    assert stopped.value.code == 3
