"""Atomic writes: a temporary file beside the target, flushed to the disk and renamed."""

import contextlib
import errno
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from common.errors import RunError

LONGEST_PREFIX = 200  # bytes of a file's name in that of its temporary file; file systems take 255 in all
_ADVICE = {
    errno.ENOSPC: "free some space or choose another place (--output, --data_folder)",
    errno.EDQUOT: "free some of your quota or choose another place (--output, --data_folder)",
    errno.EROFS: "the folder is read-only: choose another one (--output, --data_folder)",
    errno.EACCES: "no permission to write: change that of the folder or choose another one (--output, --data_folder)",
    errno.ENOENT: "the folder has been removed meanwhile: the same command starts again",
    errno.EISDIR: "a folder is there: move it away or choose another place (--output, --data_folder)",
    errno.ENOTDIR: "a file is where a folder should be: choose another place (--output, --data_folder)",
    errno.EEXIST: "a file is where a folder should be: choose another place (--output, --data_folder)",
    errno.ENAMETOOLONG: "choose a place with a shorter name (--output, --data_folder)",
    errno.EPERM: "no permission to write: change that of the folder or choose another one (--output, --data_folder)",
}


@contextlib.contextmanager
def explained_write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError raised while writing `path` into a RunError of one line that says what to do."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(
            error.errno or errno.ENOSPC, _ADVICE[errno.ENOSPC]
        )  # numpy reports a full disk without a number
        raise RunError(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def make_folder(path: Path | str) -> Path:
    """Create a folder and its parents if missing; returns its path. Raises RunError if that is impossible."""
    path = Path(path)
    with explained_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that a rename in it survives a power cut, where the system allows that."""
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


def write_atomically(path: Path | str, write: Callable[[BinaryIO], object], keep: Path | None = None) -> None:
    """Call `write(file)` on a temporary file in the folder of `path`, then replace `path` by it.

    If anything fails, the temporary file is removed and the previous file, if any, is left untouched.

    Args:
        keep: a path in the same folder under which the previous file, if any, is kept.

    Raises:
        RunError: the disk is full, the folder cannot be written to, or a device, a pipe or a socket is there.
        Exception: anything that `write` raises.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):  # root could replace even /dev/null
        raise RunError(f"cannot write {path}: a device, a pipe or a socket is there; choose another name")
    make_folder(path.parent)
    temporary = None
    with explained_write_errors(path):
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=_hidden(path.name), suffix=".tmp", dir=path.parent)
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


def _hidden(name: str) -> str:
    """The beginning of a temporary file's name, so short that the whole is no longer than a name may be."""
    return f".{os.fsdecode(os.fsencode(name)[:LONGEST_PREFIX])}."


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_bytes(path: Path | str, content: bytes, keep: Path | None = None) -> None:
    """Replace `path` by a file with this content, atomically. Raises RunError like `write_atomically`."""
    write_atomically(path, lambda file: file.write(content), keep)


def write_text(path: Path | str, content: str) -> None:
    """Replace `path` by a UTF-8 text file, atomically; line ends stay as given, undecodable bytes are escaped."""
    write_bytes(path, content.encode(errors="backslashreplace"))  # in JSON this is the escape that reads as they were


def write_json(path: Path | str, obj: Any) -> None:
    """Replace `path` by a JSON file, atomically; what is not finite becomes null (see `to_json`)."""
    write_text(path, to_json(obj, indent=2) + "\n")


def to_json(obj: Any, indent: int | None = None) -> str:
    """JSON text of an object. JSON has no NaN and no infinity: null takes their places."""
    return json.dumps(_finite(obj), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(obj: Any) -> Any:
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if isinstance(obj, Mapping):
        return {key: _finite(value) for key, value in obj.items()}
    return [_finite(value) for value in obj] if isinstance(obj, list | tuple) else obj


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
