"""Places that users name for results: checked before the work, and never written over in silence."""

import os
import stat
import tempfile
from pathlib import Path

from common.errors import RequestError, RunError
from common.files import write_text
from common.user_paths import kind_of, shown_path, why_unreachable

OVERWRITE_ADVICE = "choose another name or add --overwrite"


def check_output_file(flag: str, path: Path, overwrite: bool = False, advice: str = OVERWRITE_ADVICE) -> None:
    """Check that a file can be written there, before there is something to write.

    Args:
        overwrite: whether a file that exists may be replaced.
        advice: what to do about a file that exists.

    Raises:
        RequestError: the folder is missing or cannot be written to, the file exists, or something else is there. A
            device may be written to, and a pipe that somebody reads.
    """
    place = f"{flag} {shown_path(path)}"
    if (problem := why_unreachable(path)) is not None:
        raise RequestError(f"{place} {problem}")
    if not path.name:
        raise RequestError(f"{place} is a folder; name a file in it")
    target = path.resolve()
    folder = target.parent
    if not folder.is_dir():
        raise RequestError(f"{place}: the folder {shown_path(folder)} does not exist; create it or choose another name")
    if not target.exists():
        _check_takes_files(place, folder)
        return
    mode = target.stat().st_mode
    if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode):
        raise RequestError(f"{place} is {kind_of(mode)}; name a file")
    if stat.S_ISREG(mode) and not overwrite:
        raise RequestError(f"{place} exists; {advice}")
    if not os.access(target, os.W_OK):
        raise RequestError(f"{place} is write-protected; choose another name")
    if stat.S_ISFIFO(mode):
        os.close(_open_pipe(flag, path, target))


def write_output(flag: str, path: Path, text: str) -> None:
    """Write a text whole or not at all, but for a device or a pipe. Raises RequestError where that fails."""
    target = path.resolve()
    try:
        if target.exists() and not target.is_file():  # a device must be written to, never replaced
            descriptor = _open_pipe(flag, path, target)
            os.set_blocking(descriptor, True)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
        elif target.exists() and not os.access(target, os.W_OK):  # renaming would override a write protection
            raise PermissionError(13, "Permission denied")
        else:
            write_text(target, text)
    except (OSError, RunError) as error:
        # The text of a RunError names flags of the training scripts; its cause has the reason.
        reason = getattr(error.__cause__ if isinstance(error, RunError) else error, "strerror", None) or error
        raise RequestError(f"{flag} {shown_path(path)} cannot be written: {reason}; choose another name") from None


def _open_pipe(flag: str, path: Path, target: Path) -> int:
    """A descriptor of a device or a pipe, without waiting for somebody who reads it."""
    try:
        return os.open(target, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        reason = "nobody reads this pipe" if target.is_fifo() else error.strerror
        raise RequestError(f"{flag} {shown_path(path)}: {reason}; choose another name") from None


def check_output_folder(flag: str, path: Path) -> None:
    """Check that a folder is there and can be written to, or that it can be made. Raises RequestError."""
    place = f"{flag} {shown_path(path)}"
    if (problem := why_unreachable(path)) is not None:
        raise RequestError(f"{place} {problem}")
    if os.path.islink(path) and not path.exists():
        raise RequestError(f"{place} is a link that leads nowhere; choose another folder")
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise RequestError(f"{place}: {shown_path(there)} is {kind_of(there.stat().st_mode)}, not a folder; name one")
    _check_takes_files(place, there)


def _check_takes_files(place: str, folder: Path) -> None:
    """Make a nameless file: for root, network folders and /proc the permissions alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RequestError(
            f"{place}: {shown_path(folder)} cannot be written to ({error.strerror}); choose another place"
        ) from None
