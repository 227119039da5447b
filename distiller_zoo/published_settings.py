"""Weights and options that were published for single pairs of networks on CIFAR-100 (published.csv)."""

from collections.abc import Iterable
from pathlib import Path

from common.pair_settings import PublishedPair, read_pair_settings

FILE = Path(__file__).with_name("published.csv")


def published_pairs() -> tuple[PublishedPair, ...]:
    """All rows of published.csv, in order."""
    return read_pair_settings(FILE)


def published_for(method: str, teachers: Iterable[str], student: str) -> PublishedPair | None:
    """The published settings of a method with one teacher on this pair; None if there are none."""
    teachers = tuple(teachers)
    for pair in published_pairs():
        if (pair.method, (pair.teacher,), pair.student) == (method, teachers, student):
            return pair
    return None
