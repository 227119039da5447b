"""Reads JSON files that may be anything: huge, binary, half written, unreadable, or not files at all."""

import json
import os
import stat
from pathlib import Path
from typing import Any

LARGEST_RECORD = 4 << 20  # bytes; a config or a result is a few KiB
DEEPEST_RECORD = 64  # objects and lists within each other; a config has four


class BrokenError(Exception):
    """A record cannot be used; the message is the reason that users read."""


class NotAnObjectError(BrokenError):
    """A file holds valid JSON that is not an object."""


def printable(text: str) -> str:
    """Returns `text` on one line, with control characters and undecodable bytes escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def regular_file_size(path: Path) -> int:
    """Returns the size in bytes. Raises BrokenError for what cannot be opened safely: a pipe would block for ever."""
    try:
        info = path.stat()
    except FileNotFoundError as error:
        raise BrokenError(f"{path.name} is missing") from error
    except (OSError, ValueError) as error:
        raise BrokenError(f"{printable(path.name)}: {getattr(error, 'strerror', 'no valid name')}") from error
    if not stat.S_ISREG(info.st_mode):
        raise BrokenError(f"{path.name} is not a regular file")
    return info.st_size


def read_object(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a small file. Raises BrokenError where there is none."""
    if regular_file_size(path) > LARGEST_RECORD:
        raise BrokenError(f"{path.name} is larger than {LARGEST_RECORD >> 20} MiB")
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            value = json.loads(file.read(LARGEST_RECORD + 1))
    except OSError as error:
        raise BrokenError(f"{path.name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BrokenError(f"{path.name} is not valid JSON") from error
    if not isinstance(value, dict):
        raise NotAnObjectError(f"{path.name} is not a JSON object")
    if is_too_deep(value):
        raise BrokenError(f"{path.name} is nested more than {DEEPEST_RECORD} deep")
    return value


def object_or_none(path: Path) -> dict[str, Any] | None:
    """Returns the JSON object in a small file, None where there is none."""
    try:
        return read_object(path)
    except BrokenError:
        return None


def is_too_deep(value: object) -> bool:
    """True if lists and objects lie more than DEEPEST_RECORD within each other, for what follows may be recursive."""
    level = [value]
    for _ in range(DEEPEST_RECORD):
        level = [part for outer in level if isinstance(outer, (dict, list)) for part in _parts(outer)]
        if not level:
            return False
    return True


def _parts(outer: dict[str, Any] | list[Any]) -> list[Any]:
    return [part for part in (outer.values() if isinstance(outer, dict) else outer) if isinstance(part, (dict, list))]


def _without_waiting(path: str, flags: int) -> int:
    """Opens a file that may have become a pipe since it was looked at."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
