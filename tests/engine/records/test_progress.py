"""The output of a run: a bar if stderr is a terminal, and plain lines otherwise."""

import os
import re
import struct
import sys
import threading
from types import SimpleNamespace

import pytest

from engine.records.progress import Progress
from tests.helpers import train_alone

pytestmark = pytest.mark.runs


def test_lines_and_no_bar_without_a_terminal(tmp_path, capsys):
    assert train_alone(tmp_path) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    assert [line.split()[1] for line in out.splitlines() if line.startswith("epoch ")] == ["1/2", "2/2"]
    assert "\r" not in out


def test_a_bar_in_a_terminal(tmp_path, capsys, monkeypatch):
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    shown = bytearray()

    def read():
        while b"END" not in shown:
            shown.extend(os.read(controller, 4096))

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(terminal, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        code = train_alone(tmp_path)
        print("END", file=stderr, flush=True)
        reader.join(timeout=30)
    os.close(controller)
    assert code == 0
    out = capsys.readouterr().out
    for epoch in (1, 2):
        assert f"\repoch {epoch}/2: ".encode() in shown
        assert f"epoch {epoch}/2  resnet8" in out
    assert b"/10 [" in shown  # steps of the epoch
    assert re.search(rb"\d s of about \d+ s left", shown)
    assert [line.endswith(" left") for line in out.splitlines() if line.startswith("epoch ")] == [True, False]


def test_processes_that_train_along_print_nothing(capsys):
    progress = Progress(silent=True)
    with progress.bar([1, 2], "epoch 1/2", 2) as steps:
        assert list(steps) == [1, 2]
    for write in (progress.line, progress.error, progress.warning):
        write("text")
    assert capsys.readouterr() == ("", "")


def test_the_line_of_an_epoch_has_the_accuracy_on_held_out_images(capsys):
    plan = SimpleNamespace(run_id="", console_name="resnet8 kd", recipe=SimpleNamespace(epochs=2))
    record = {"epoch": 1, "train": {"loss": 1.0, "top1": 50.0}, "test": {"top1": 60.0}, "seconds": 1.0}
    for validation in ({}, {"validation": {"top1": 72.0}}):
        Progress().epoch(plan, record | validation, record)
    plain, held_out = capsys.readouterr().out.splitlines()
    assert "validation 72.00" in held_out
    assert "validation" not in plain
