"""Locks between processes. The system releases them when their holder dies, however it dies."""

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from common.errors import RequestError
from common.files import explained_write_errors, make_folder

LOCK = ".lock"
PATIENCE = 0.2  # seconds; the file that a holder removes when it is done needs a second look


@contextlib.contextmanager
def sole_user_of(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder` within the block. The lock file holds the holder's name and is removed afterwards.

    Raises:
        RequestError: another process holds it; the message names the process, its host and since when.
    """
    path = folder / LOCK
    lock = FileLock(path, fallback_to_soft=False)
    try:
        _acquire(lock, folder)
    except Timeout:
        raise RequestError(
            f"{folder} is in use by {_holder(path)}; wait until it ends or choose another --output"
        ) from None
    except OSError:
        pass  # some network file systems have no locks: go on without
    try:
        with contextlib.suppress(OSError):  # on a full disk nobody can be named, and the lock holds all the same
            path.write_text(
                f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
            )
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is still held, or it could be the next holder's
        lock.release()


def _acquire(lock: FileLock, folder: Path) -> None:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=PATIENCE)
        except FileNotFoundError:  # the last holder has just removed the folder, which was empty
            continue
        return


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text().strip() or "another process"
    return "another process"


@contextlib.contextmanager
def only_one_process(path: Path | str) -> Iterator[None]:
    """Hold the lock file `path` within the block; another process that wants it waits. The file is left behind.

    Raises:
        RunError: the folder of the lock file cannot be written to.
    """
    path = Path(path)
    make_folder(path.parent)
    with explained_write_errors(path):
        path.touch()
    lock = FileLock(path, fallback_to_soft=False)
    with contextlib.suppress(OSError):  # no locks on some network file systems: go on without
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
