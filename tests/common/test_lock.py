"""Locks: one process at a time, the holder is named, and a killed holder holds nothing."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from common.errors import RequestError
from common.lock import LOCK, only_one_process, sole_user_of
from tests.helpers import ROOT, environment

HOLDER = """
import sys, time
from pathlib import Path
from common.lock import sole_user_of
with sole_user_of(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_user_is_refused_with_the_name_of_the_first(tmp_path):
    with sole_user_of(tmp_path), pytest.raises(RequestError) as refusal, sole_user_of(tmp_path):
        pass
    message = str(refusal.value)
    assert all(part in message for part in (str(tmp_path), f"{os.getpid()}", socket.gethostname(), "--output"))
    assert not any(tmp_path.iterdir())
    with sole_user_of(tmp_path):  # and is free again
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_it_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), sole_user_of(tmp_path):
        raise ZeroDivisionError
    with sole_user_of(tmp_path):
        pass


def test_a_folder_that_was_removed_meanwhile_is_made_anew(tmp_path):
    with sole_user_of(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()


@pytest.mark.runs
def test_the_lock_dies_with_its_holder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment()) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RequestError) as refusal, sole_user_of(tmp_path):
            pass
        assert str(process.pid) in str(refusal.value)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / LOCK).exists()
    with sole_user_of(tmp_path):
        pass


def test_the_others_wait_for_one_process(tmp_path):
    order = []

    def second():
        with only_one_process(tmp_path / "lock"):
            order.append("second")

    thread = threading.Thread(target=second)
    with only_one_process(tmp_path / "lock"):
        thread.start()
        thread.join(timeout=0.2)
        order.append("first")
    thread.join(timeout=10)
    assert order == ["first", "second"]
