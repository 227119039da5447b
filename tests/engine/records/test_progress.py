"""What a run shows: a bar where stderr is a terminal, nothing but plain lines where it is not."""

import os
import struct
import subprocess
import sys

import pytest

from tests.helpers import ROOT, SMALL, environment, run_script

COMMAND = ("train_teacher.py", "--model", "resnet8", *SMALL)


def test_lines_and_no_bar_without_a_terminal(tmp_path):
    done = run_script(*COMMAND, "--output", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch ")] == ["1/2", "2/2"]
    assert "\r" not in done.stdout


def test_a_bar_in_a_terminal(tmp_path):
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    command = [sys.executable, *COMMAND, "--output", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=terminal, env=environment())
    os.close(terminal)
    shown = b""
    while True:
        try:
            piece = os.read(controller, 4096)
        except OSError:  # how Linux says that the other side has closed the terminal
            break
        if not piece:
            break
        shown += piece
    out, _ = process.communicate(timeout=60)
    os.close(controller)
    assert process.returncode == 0
    for epoch in (1, 2):
        assert f"\repoch {epoch}/2: ".encode() in shown
        assert f"epoch {epoch}/2  resnet8".encode() in out
    assert b"/10 [" in shown  # steps of the epoch
