"""One process at a time in a folder: a lock that the system itself lets go of when its holder dies, however it dies."""

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from common.errors import RequestError

try:
    import fcntl
except ImportError:  # Windows: two processes in one folder are not kept apart there
    fcntl = None

LOCK = ".lock"


@contextlib.contextmanager
def sole_user_of(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, which must be there, within the block.

    Raises:
        RequestError: another process holds it; says which, on which host and since when.
    """
    path = folder / LOCK
    with _locked(path) as file:
        with contextlib.suppress(OSError):  # on a full disk nobody can be named, and the lock holds all the same
            since = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}".encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is still held: see `_locked`


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The lock file, open and locked. One that its last holder removed meanwhile is no lock: then once more."""
    while True:
        try:
            opened = open(path, "a+b", buffering=0)  # noqa: SIM115
        except FileNotFoundError:  # its last holder has just removed the folder, which was empty
            path.parent.mkdir(parents=True, exist_ok=True)
            continue
        with opened as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise RequestError(
                        f"{path.parent} is in use by {_holder(file)}; wait until it ends or choose another --output"
                    ) from None
                except OSError:
                    pass  # no locks on some network file systems: go on without
            if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                continue
            yield file
            return


def _holder(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode().strip() or "another process"
