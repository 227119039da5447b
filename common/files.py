"""Files that are either whole or not there: write beside, flush to the disk, rename over."""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from common.errors import RunError

try:
    import fcntl
except ImportError:  # Windows: two runs that fetch the same file at once are not kept apart there
    fcntl = None

_MENDS = {
    errno.ENOSPC: "free some space or choose another place (--output, --data_folder)",
    errno.EDQUOT: "free some of your quota or choose another place (--output, --data_folder)",
    errno.EROFS: "the folder is read-only: choose another place (--output, --data_folder)",
    errno.EACCES: "the folder may not be written to: mend its permissions or choose another (--output, --data_folder)",
    errno.EPERM: "the folder may not be written to: mend its permissions or choose another (--output, --data_folder)",
}


@contextlib.contextmanager
def explained_write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError met while writing `path` into a RunError of one line that names the mend."""
    try:
        yield
    except OSError as error:
        mend = _MENDS.get(error.errno, _MENDS[errno.ENOSPC])  # numpy reports a full disk without a number
        raise RunError(f"cannot write {path}: {error.strerror or error}; {mend}") from error


def make_folder(path: Path | str) -> Path:
    """Create a folder and its parents where missing; raises RunError where that is impossible."""
    path = Path(path)
    with explained_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut, where the system lets folders be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no such call
            raise
    finally:
        os.close(descriptor)


def write_atomically(path: Path | str, write: Callable[[BinaryIO], None], keep: Path | None = None) -> None:
    """Call `write(file)` on a temporary file in the folder of `path`, then put it in the place of `path`.

    Whatever goes wrong, the temporary file is removed and the old file, if any, stands untouched.

    Args:
        keep: a name in the same folder under which the old file, if any, is kept.

    Raises:
        RunError: the disk is full or the folder cannot be written to.
        Exception: anything that `write` raises.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = None
    with explained_write_errors(path):
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0600 would hide results from the rest of a group
            if keep is not None and path.exists():
                os.replace(path, keep)
            os.replace(temporary, path)
            temporary = None
            sync_folder(path.parent)
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_bytes(path: Path | str, content: bytes, keep: Path | None = None) -> None:
    """`write_atomically` for bytes at hand."""
    write_atomically(path, lambda file: file.write(content), keep)


def write_text(path: Path | str, content: str) -> None:
    """`write_atomically` for text, as UTF-8 with the line ends as given."""
    write_bytes(path, content.encode())


def write_json(path: Path | str, obj: Any) -> None:
    """`write_atomically` for anything that JSON can hold; NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def digest_of(path: Path | str, algorithm: str) -> str:
    """Hexadecimal digest of a file's content, read in pieces of 1 MiB."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    return digest_of(path, "sha256")


@contextlib.contextmanager
def only_one_process(path: Path | str) -> Iterator[None]:
    """Hold the lock file `path` within the block; another process that wants it waits. The file is left behind."""
    path = Path(path)
    make_folder(path.parent)
    with explained_write_errors(path):
        file = open(path, "ab")  # noqa: SIM115
    with file:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # no locks on some network file systems: go on without
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
