"""Reads tables of settings that were published for single pairs of networks (distiller_zoo/published.csv)."""

import ast
import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PublishedPair:
    """Published settings of a method on a pair that differ from the method's defaults.

    Attributes:
        weights: alpha and beta, those that differ.
        options: values by name, those that differ.
        source: where they were published.
    """

    method: str
    teacher: str
    student: str
    weights: dict[str, float]
    options: dict[str, Any]
    source: str


@cache
def read_pair_settings(path: Path) -> tuple[PublishedPair, ...]:
    """All rows of a table with the columns method, teacher, student, alpha, beta, options (NAME=VALUE;...), source."""
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(_row(row) for row in csv.DictReader(file))


def _row(row: dict[str, str]) -> PublishedPair:
    options = dict(part.split("=") for part in row["options"].split(";") if part)
    return PublishedPair(
        row["method"],
        row["teacher"],
        row["student"],
        {name: float(row[name]) for name in ("alpha", "beta") if row[name]},
        {name: ast.literal_eval(value) for name, value in options.items()},
        row["source"],
    )
