"""Reading files that may be anything: huge, binary, half written, unreadable, or not files at all."""

import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

LARGEST_RECORD = 4 << 20  # bytes; a config or a result is a few KiB
SMALLEST_COST, LARGEST_COST = 1e-9, 1e15  # s, images/s or MiB; no run costs more, and no mean or chart could bear it
LONGEST_TAIL = 1 << 20  # bytes of metrics that are read, several thousand epochs


class BrokenError(Exception):
    """A record cannot be used; the message is the reason that the user reads."""


class NotAnObjectError(BrokenError):
    """Valid JSON, but no object."""


def printable(text: str) -> str:
    """`text` on one line, with control characters and undecodable bytes spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def regular_file_size(path: Path) -> int:
    """Size in bytes; raises BrokenError for what cannot be opened safely (a pipe would block for ever)."""
    try:
        info = path.stat()
    except FileNotFoundError as error:
        raise BrokenError(f"{path.name} is missing") from error
    except OSError as error:
        raise BrokenError(f"{path.name}: {error.strerror}") from error
    if not stat.S_ISREG(info.st_mode):
        raise BrokenError(f"{path.name} is not a regular file")
    return info.st_size


def read_object(path: Path) -> dict:
    """The JSON object in a small file; raises BrokenError."""
    if regular_file_size(path) > LARGEST_RECORD:
        raise BrokenError(f"{path.name} is larger than {LARGEST_RECORD >> 20} MiB")
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise BrokenError(f"{path.name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BrokenError(f"{path.name} is not valid JSON") from error
    if not isinstance(value, dict):
        raise NotAnObjectError(f"{path.name} is not a JSON object")
    return value


def read_tail(path: Path) -> list[dict]:
    """The JSON objects at the end of a file of JSON lines; lines that are none are passed over."""
    try:
        start = max(0, regular_file_size(path) - LONGEST_TAIL)
        with path.open("rb") as file:
            file.seek(start)
            lines = file.read(LONGEST_TAIL).splitlines()
    except (BrokenError, OSError):
        return []
    objects = []
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):  # the line that a crash or the cut at `start` left in half
            continue
        if isinstance(value, dict):
            objects.append(value)
    return objects


def walk(root: Path, unreadable: list[OSError]) -> Iterator[tuple[Path, list[str]]]:
    """Every folder at or below `root` once, with its file names; links are followed, loops are not."""
    seen = set()
    for folder, folders, files in os.walk(root, onerror=unreadable.append, followlinks=True):
        folders.sort()
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield Path(folder), files


def text(record: dict, name: str, where: str) -> str:
    """A string field, made printable."""
    value = _field(record, name, where)
    if not isinstance(value, str):
        raise BrokenError(f"{where}: {name} is not a string")
    return printable(value)


def nonempty_text(record: dict, name: str, where: str) -> str:
    """A string field that a row or a heading is called by, so not empty."""
    value = text(record, name, where)
    if not value.strip():
        raise BrokenError(f"{where}: {name} is empty")
    return value


def integer(record: dict, name: str, where: str) -> int:
    """A whole number from 0 up to what a table column can hold."""
    value = _field(record, name, where)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise BrokenError(f"{where}: {name} is not a whole number")
    return value


def percentage(record: dict, name: str, where: str) -> float:
    """A finite number from 0 to 100."""
    value = percentage_or_none(_field(record, name, where))
    if value is None:
        raise BrokenError(f"{where}: {name} is not a percentage")
    return value


def number_or_none(value: object) -> float | None:
    """The finite number that `value` is, else None: for what a table can leave empty."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def percentage_or_none(value: object) -> float | None:
    """The number from 0 to 100 that `value` is, else None."""
    number = number_or_none(value)
    return number if number is not None and 0 <= number <= 100 else None


def cost_or_none(value: object) -> float | None:
    """The time, rate or amount of memory that `value` can be, else None."""
    number = number_or_none(value)
    return number if number is not None and SMALLEST_COST < number < LARGEST_COST else None


def mapping(record: dict, name: str, where: str) -> dict:
    """A nested object."""
    value = _field(record, name, where)
    if not isinstance(value, dict):
        raise BrokenError(f"{where}: {name} is not an object")
    return value


def objects(record: dict, name: str, where: str) -> list[dict]:
    """A list of nested objects."""
    value = _field(record, name, where)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BrokenError(f"{where}: {name} is not a list of objects")
    return value


def _field(record: dict, name: str, where: str) -> object:
    if name not in record:
        raise BrokenError(f"{where}: {name} is missing")
    return record[name]
