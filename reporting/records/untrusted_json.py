"""Fields of JSON files that may be anything: checked for type and range, and texts made printable."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.json_files import BrokenError, is_too_deep, printable, regular_file_size

SMALLEST_COST, LARGEST_COST = 1e-9, 1e15  # s, images/s or MiB; beyond them a value is no measurement
LONGEST_TAIL = 1 << 20  # bytes of metrics that are read, several thousand epochs


def read_tail(path: Path) -> list[dict[str, Any]]:
    """Returns the JSON objects at the end of a file of JSON lines; [] where it cannot be read.

    Lines that are no objects are left out.
    """
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
        if isinstance(value, dict) and not is_too_deep(value):
            objects.append(value)
    return objects


def walk(root: Path, unreadable: list[OSError]) -> Iterator[tuple[Path, list[str]]]:
    """Yields every folder at or below `root` once, with its file names; follows links, but no loops.

    Args:
        unreadable: gets the errors of folders that cannot be listed.
    """
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=unreadable.append, followlinks=True):
        folders.sort()
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield Path(folder), files


def text(record: dict[str, Any], name: str, where: str) -> str:
    """Returns a string field, made printable. Raises BrokenError where it is missing or no string."""
    value = _field(record, name, where)
    if not isinstance(value, str):
        raise BrokenError(f"{where}: {name} is not a string")
    return printable(value)


def nonempty_text(record: dict[str, Any], name: str, where: str) -> str:
    """Returns a string field that is not empty, made printable. Raises BrokenError otherwise."""
    value = text(record, name, where)
    if not value.strip():
        raise BrokenError(f"{where}: {name} is empty")
    return value


def integer(record: dict[str, Any], name: str, where: str) -> int:
    """Returns a whole number from 0 to 2^63 − 1, the most that a column holds. Raises BrokenError otherwise."""
    value = _field(record, name, where)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise BrokenError(f"{where}: {name} is not a whole number")
    return value


def percentage(record: dict[str, Any], name: str, where: str) -> float:
    """Returns a number from 0 to 100. Raises BrokenError where the field is anything else."""
    value = percentage_or_none(_field(record, name, where))
    if value is None:
        raise BrokenError(f"{where}: {name} is not a percentage")
    return value


def number_or_none(value: object) -> float | None:
    """Returns `value` as a float where it is a finite number, else None: for what a table can leave empty."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def percentage_or_none(value: object) -> float | None:
    """Returns `value` as a float where it is a number from 0 to 100, else None."""
    number = number_or_none(value)
    return number if number is not None and 0 <= number <= 100 else None


def cost_or_none(value: object) -> float | None:
    """Returns `value` as a float where it can be a time, a rate or an amount of memory, else None."""
    number = number_or_none(value)
    return number if number is not None and SMALLEST_COST < number < LARGEST_COST else None


def count_or_none(value: object) -> int | None:
    """Returns `value` where it is a whole number from 0 to 2^53, which a float holds exactly, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**53 else None


def mapping(record: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """Returns a nested object. Raises BrokenError where the field is anything else."""
    value = _field(record, name, where)
    if not isinstance(value, dict):
        raise BrokenError(f"{where}: {name} is not an object")
    return value


def objects(record: dict[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    """Returns a list of nested objects. Raises BrokenError where the field is anything else."""
    value = _field(record, name, where)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BrokenError(f"{where}: {name} is not a list of objects")
    return value


def _field(record: dict[str, Any], name: str, where: str) -> object:
    if name not in record:
        raise BrokenError(f"{where}: {name} is missing")
    return record[name]
