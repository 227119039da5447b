"""Locks: one process at a time, the holder is named, and a killed holder holds nothing."""

import errno
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from common.errors import RequestError, RunError
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


# --- what may lie in the place of a lock file -------------------------------------------------------


def hard_link(lock, mine):
    os.link(mine, lock)


NO_LOCK_FILES = {
    "a link to a file": lambda lock, mine: lock.symlink_to(mine),
    "a link into nowhere": lambda lock, mine: lock.symlink_to(lock.parent / "nowhere"),
    "a circle": lambda lock, mine: lock.symlink_to(lock.name),
    "a hard link": hard_link,
    "a folder": lambda lock, mine: lock.mkdir(),
    "a pipe": lambda lock, mine: os.mkfifo(lock),
    "a device": lambda lock, mine: lock.symlink_to("/dev/null"),
    "a file of somebody": lambda lock, mine: lock.write_text("my notes"),
}


@pytest.mark.parametrize("take", [sole_user_of, lambda folder: only_one_process(folder / LOCK)], ids=["run", "data"])
@pytest.mark.parametrize("kind", NO_LOCK_FILES)
def test_a_lock_follows_no_link_and_writes_to_nothing_of_others(kind, take, tmp_path):
    mine, folder = tmp_path / "mine", tmp_path / "run"
    mine.write_text("my notes")
    folder.mkdir()
    NO_LOCK_FILES[kind](folder / LOCK, mine)
    before = (os.lstat(folder / LOCK), os.lstat(mine).st_mtime_ns, sorted(tmp_path.rglob("*")))
    with pytest.raises(RequestError) as refusal, take(folder):
        pass
    assert str(folder / LOCK) in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    assert (mine.read_text(), sorted(tmp_path.rglob("*"))) == ("my notes", before[2])
    assert (os.lstat(folder / LOCK).st_ino, os.lstat(mine).st_mtime_ns) == (before[0].st_ino, before[1])


@pytest.mark.parametrize("note", ["", "process 1 on localhost since 2020-01-01 00:00 UTC"])
def test_what_a_dead_holder_left_is_taken_over(note, tmp_path):
    (tmp_path / LOCK).write_text(note)
    with sole_user_of(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / LOCK).read_text()
    assert not (tmp_path / LOCK).exists()


def test_data_that_several_read_keep_their_lock_file(tmp_path):
    for _ in range(2):
        with only_one_process(tmp_path / "lock"):
            pass
    assert (tmp_path / "lock").read_bytes() == b""


# --- what becomes of a folder and its lock while they are held --------------------------------------


def renamed(folder):
    folder.rename(folder.with_name("elsewhere"))


def replaced(folder):
    renamed(folder)
    folder.mkdir()


def linked(folder):
    renamed(folder)
    folder.symlink_to("missing")


def lock_replaced(folder):
    (folder / "new").write_text("")
    os.replace(folder / "new", folder / LOCK)


LOSSES = {
    "removed": shutil.rmtree,
    "renamed": renamed,
    "replaced": replaced,
    "a link in its place": linked,
    "lock removed": lambda folder: (folder / LOCK).unlink(),
    "lock replaced": lock_replaced,
    "lock a link": lambda folder: ((folder / LOCK).unlink(), (folder / LOCK).symlink_to("/dev/null")),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_hold_that_is_lost_is_noticed(loss, tmp_path):
    folder = tmp_path / "run"
    with sole_user_of(folder) as hold:
        hold.check()
        assert hold.stands
        LOSSES[loss](folder)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(RunError) as lost:
            hold.check()
        assert str(folder) in str(lost.value)
        assert len(str(lost.value).splitlines()) == 1
        assert not hold.stands
    assert sorted(tmp_path.rglob("*")) == before  # nothing of others is removed


def test_a_folder_that_is_linked_elsewhere_can_be_held(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    with sole_user_of(tmp_path / "run") as hold:
        hold.check()
        with pytest.raises(RequestError), sole_user_of(tmp_path / "disk"):
            pass


@pytest.mark.parametrize("loss", ["lock removed", "lock replaced"])
def test_a_removed_lock_lets_no_second_process_in(loss, tmp_path):
    with sole_user_of(tmp_path):
        LOSSES[loss](tmp_path)
        with pytest.raises(RequestError), sole_user_of(tmp_path):
            pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """One process at a time all the same, and a holder that has died on this machine is taken over from."""

    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with sole_user_of(tmp_path) as hold:
        hold.check()
        with pytest.raises(RequestError) as refusal, sole_user_of(tmp_path):
            pass
        assert str(os.getpid()) in str(refusal.value)
        assert len(str(refusal.value).splitlines()) == 1
    assert not (tmp_path / LOCK).exists()
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    (tmp_path / LOCK).write_text(f"{process.pid}\n{socket.gethostname()}\n")
    with sole_user_of(tmp_path):
        pass
