"""Locks between processes. The system releases them when their holder dies, however it dies."""

import contextlib
import errno
import os
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from common.errors import RequestError, RunError
from common.files import explained_write_errors, make_folder
from common.user_paths import kind_of, shown_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
PATIENCE = 0.2  # seconds; the file that a holder removes when it is done needs a second look
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)
BUSY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
LONGEST_NOTE = 200  # bytes that are read of what a holder wrote about itself
BEGINNING = b"process "  # of that note

Identity = tuple[int, int]  # device and inode, which a folder keeps when it is renamed


@dataclass(frozen=True)
class Hold:
    """The hold of a process on a folder.

    Attributes:
        lock: identity of the lock file; None where the file system has no locks.
    """

    folder: Path
    identity: Identity
    lock: Identity | None

    def check(self) -> None:
        """Check that the folder and its lock are still those that were taken.

        Raises:
            RunError: somebody has removed, renamed or replaced one of them; another process may write there now.
        """
        if _identity(self.folder) != self.identity:
            what = "replaced by another" if os.path.lexists(self.folder) else "removed or renamed"
            raise RunError(
                f"{shown_path(self.folder)} was {what} during its run, which ends here; "
                f"the same command starts it anew, or continues it if the folder is put back"
            )
        if self.lock is not None and _identity(self.folder / LOCK) != self.lock:
            raise RunError(
                f"{shown_path(self.folder / LOCK)} was removed or replaced during its run, which ends here; "
                f"the same command continues from the last checkpoint"
            )

    @property
    def stands(self) -> bool:
        """True unless `check` fails."""
        try:
            self.check()
        except RunError:
            return False
        return True


def _identity(path: Path) -> Identity | None:
    """Of a folder behind links, or of a lock file, which is never a link; None if it is missing."""
    try:
        found = os.lstat(path) if path.name == LOCK else os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def sole_user_of(folder: Path) -> Iterator[Hold]:
    """Hold the lock of `folder` within the block. The lock file holds the holder's name and is removed afterwards.

    The folder itself is locked too, so that a removed lock file lets no second process in.

    Raises:
        RequestError: another process holds it, and the message names the process, its host and since when; or what lies
            in the place of the lock file is not one.
        OSError: the folder cannot be made or written to.
    """
    with contextlib.ExitStack() as locks:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                hold = _taken(folder, locks)
            except Timeout:
                hold = None
                if time.monotonic() > deadline:
                    raise RequestError(
                        f"{shown_path(folder)} is in use by {_holder(folder / LOCK)}; wait until it ends or choose "
                        f"another --output"
                    ) from None
                time.sleep(PATIENCE / 10)
            if hold is not None and hold.stands:
                break
            locks.close()  # the last holder has just removed the folder, which was empty, or the lock file
        yield hold


def _taken(folder: Path, locks: contextlib.ExitStack) -> Hold | None:
    """Take both locks; None if the folder vanished meanwhile. Raises Timeout if another process has one of them."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        identity = locks.enter_context(_locked_folder(folder))
        lock = locks.enter_context(_locked_file(folder / LOCK))
    except FileNotFoundError:
        return None
    return None if identity is None else Hold(folder, identity, lock)


@contextlib.contextmanager
def _locked_folder(folder: Path) -> Iterator[Identity | None]:
    """Lock a folder itself, where the system can; yields its identity."""
    if fcntl is None:
        yield _identity(folder)
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in BUSY:
                raise Timeout(str(folder)) from None
            if error.errno not in NO_LOCKS:
                raise
        found = os.fstat(descriptor)
        yield found.st_dev, found.st_ino
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # processes that were forked off have the descriptor too
        os.close(descriptor)


@contextlib.contextmanager
def _locked_file(path: Path) -> Iterator[Identity | None]:
    """Lock a lock file, which is written to and removed while it is held only; yields its identity."""
    check_lock_file(path)
    found: list[Identity] = []

    def sign(descriptor: int) -> None:
        state = os.fstat(descriptor)
        found.append((state.st_dev, state.st_ino))
        note = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        with contextlib.suppress(OSError):  # on a full disk nobody can be named, and the lock holds all the same
            os.ftruncate(descriptor, 0)
            os.write(descriptor, note.encode())

    lock: FileLock | SoftFileLock = FileLock(path, fallback_to_soft=False, on_acquired=sign)
    try:
        lock.acquire(timeout=0)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        # Some network file systems have no locks. A file that one process alone can create has to do there.
        with contextlib.suppress(OSError):
            if not os.lstat(path).st_size:  # made by the attempt
                path.unlink()
        lock = SoftFileLock(path)
        lock.acquire(timeout=0)
        found = [identity for identity in [_identity(path)] if identity is not None]
    try:
        yield found[0] if found else None
    finally:
        with contextlib.suppress(OSError):
            if found and _identity(path) == found[0]:
                path.unlink()  # while it is still held, or it could be the next holder's
        lock.release()


def check_lock_file(path: Path) -> None:
    """Check that a lock may be taken at `path`: nothing is there, or a file that such a lock has left behind.

    Raises:
        RequestError: a link, a folder, or somebody's file is there, which a lock would write to or remove.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        what = "a link"
    elif not stat.S_ISREG(found.st_mode):
        what = kind_of(found.st_mode)
    elif found.st_nlink > 1:
        what = "a file with a second name (a hard link)"
    elif found.st_size and not _note(path).startswith(BEGINNING):
        what = "a file of somebody else"
    else:
        return
    raise RequestError(f"{shown_path(path)} is {what}, where the lock of this folder belongs; move it away")


def _note(path: Path) -> bytes:
    """What the holder of a lock wrote; of a SoftFileLock, process and host in lines of their own."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        note = file.read(LONGEST_NOTE)
        first, *others = note.split(b"\n")
        return b"process " + b" on ".join([first, *others[:1]]) if first.isdigit() else note
    return BEGINNING


def _holder(path: Path) -> str:
    words = shown_path(" ".join(_note(path).decode(errors="replace").split()))
    return words if words not in ("", "process") else "another process"


@contextlib.contextmanager
def only_one_process(path: Path | str) -> Iterator[None]:
    """Hold the lock file `path` within the block; another process that wants it waits. The file is left behind.

    Raises:
        RequestError: what lies there is no lock file.
        RunError: the folder of the lock file cannot be written to.
    """
    path = Path(path)
    make_folder(path.parent)
    lock = FileLock(path, fallback_to_soft=False)
    with explained_write_errors(path):
        check_lock_file(path)
        try:
            lock.acquire()
        except OSError as error:
            if error.errno not in NO_LOCKS:  # some network file systems have none: go on without
                raise
    try:
        yield
    finally:
        lock.release()
