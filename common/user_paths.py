"""Paths that users name: what is wrong with one, found without blocking on a pipe and without following a loop."""

import argparse
import errno
import os
import stat
from pathlib import Path

from common.errors import RequestError

LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes; what Linux, macOS and Windows take at most of a name and of a path
SHOWN = 80  # characters of a path that is too long to be shown whole
_LINE_BREAKS = "\u2028\u2029"  # beside the control characters, what splits a line
_WORDS = {
    errno.EACCES: "no permission to enter a folder above it",
    errno.ELOOP: "its links lead round in a circle",
    errno.ENAMETOOLONG: f"a name may have {LONGEST_NAME} bytes",
    errno.ESTALE: "its network folder is gone; mount it again",
}
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def shown_path(path: Path | str) -> str:
    """The path on one line: control characters and undecodable bytes escaped, a very long one shortened."""
    text = "".join(_escaped(letter) for letter in str(path))
    return text if len(text) <= LONGEST_NAME else f"{text[:SHOWN]}…"


def _escaped(letter: str) -> str:
    odd = _is_control(letter) or "\ud800" <= letter <= "\udfff"
    return letter.encode("unicode_escape").decode() if odd else letter


def _is_control(letter: str) -> bool:
    return letter < " " or "\x7f" <= letter < "\xa0" or letter in _LINE_BREAKS


def why_unreachable(path: Path | str) -> str | None:
    """Why nothing can ever be found or made at `path`, as the end of a sentence; None if it may be there or be made."""
    if not str(path).strip():
        return "is empty; give a path"
    if any(map(_is_control, str(path))):
        return "has a line break or another control character in its name; rename it"
    try:
        encoded = os.fsencode(path)
        if len(encoded) > LONGEST_PATH or any(len(name) > LONGEST_NAME for name in encoded.split(os.fsencode(os.sep))):
            return f"is too long: a name may have {LONGEST_NAME} bytes, a path {LONGEST_PATH}; choose a shorter one"
        os.stat(path)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        places = (Path(path), *Path(path).parents)  # itself too: a slash may follow a file's name
        file = next((place for place in places if os.path.exists(place)), path)
        return f"cannot be: {shown_path(file)} is {kind_of(os.stat(file).st_mode)}, not a folder"
    except (OSError, ValueError) as error:
        return f"cannot be reached: {_reason(error)}"
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return _WORDS.get(error.errno or 0) or error.strerror or type(error).__name__
    return "no file system has such a name"  # lone surrogates, NUL


def reachable_path(text: str) -> Path:
    """A type for argparse: a path that is there or may be made."""
    if (problem := why_unreachable(text)) is not None:
        raise argparse.ArgumentTypeError(f"{shown_path(text) or 'the path'} {problem}")
    return Path(text)


def reachable_folder(text: str) -> Path:
    """A type for argparse: a path of a folder, which is there or may be made."""
    path = reachable_path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{shown_path(path)} is {kind_of(path.stat().st_mode)}, not a folder")
    return path


def kind_of(mode: int) -> str:
    """What lies there, in words, from its `st_mode`."""
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "a file")


def why_no_file(path: Path | str) -> str | None:
    """Why `path` cannot be read as a regular file, as the end of a sentence; None if it can."""
    if (problem := why_unreachable(path)) is not None:
        return problem
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return f"is {kind_of(mode)}, not a file"
        os.close(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)))
    except FileNotFoundError:
        return "is a link that leads nowhere" if os.path.islink(path) else "is missing"
    except OSError as error:
        return f"cannot be read: {(error.strerror or type(error).__name__).lower()}"
    return None


def check_file(path: Path | str, advice: str, what: str = "") -> None:
    """Raise RequestError unless `path` is a regular file that can be read; a link counts as what it leads to.

    Args:
        advice: what to do, the end of the message.
        what: words before the path in the message: "checkpoint", "--preset".
    """
    if (problem := why_no_file(path)) is not None:
        advice = "change its permissions" if problem.endswith("permission denied") else advice
        raise RequestError(f"{what} {shown_path(path)} {problem}; {advice}".lstrip())


def file_is_there(path: Path | str, advice: str, what: str = "") -> bool:
    """True if `path` is a regular file that can be read, False if nothing is there.

    Raises:
        RequestError: something else is there, such as a folder, a pipe or a link that leads nowhere.
    """
    if not os.path.lexists(path) and why_unreachable(path) is None:
        return False
    check_file(path, advice, what)
    return True


def read_regular(path: Path | str) -> bytes:
    """The content of a regular file. Raises OSError for a missing or unreadable one, and for a pipe or a device."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, f"it is {kind_of(mode)}, not a file", str(path))
        return file.read()


def read_small_file(path: Path | str, largest: int, advice: str, what: str = "") -> bytes:
    """The content of a regular file of at most `largest` bytes.

    Raises:
        RequestError: it is missing, no file, unreadable or larger.
    """
    check_file(path, advice, what)
    try:
        with open(path, "rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise RequestError(f"{what} {shown_path(path)} cannot be read: {error.strerror}; {advice}".lstrip()) from error
    if len(content) > largest:
        raise RequestError(f"{what} {shown_path(path)} is larger than {largest >> 10} KiB; {advice}".lstrip())
    return content
