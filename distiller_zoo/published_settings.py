"""Weights and options that were published for single pairs of networks on CIFAR-100 (published.csv)."""

import ast
import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("published.csv")


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
def published_pairs() -> tuple[PublishedPair, ...]:
    """All rows of published.csv, in order."""
    with open(FILE, encoding="utf-8", newline="") as file:
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


def published_for(method: str, teachers: Iterable[str], student: str) -> PublishedPair | None:
    """The published settings of a method with one teacher on this pair; None if there are none."""
    teachers = tuple(teachers)
    for pair in published_pairs():
        if (pair.method, (pair.teacher,), pair.student) == (method, teachers, student):
            return pair
    return None
