"""Words for numbers, and for names that nobody knows."""

import difflib
from collections.abc import Collection

SHOWN = 6  # names at most, where none is near


def counted(number: int, noun: str) -> str:
    """The number with its noun in singular or plural: 1 epoch, 2 epochs."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def did_you_mean(name: str, known: Collection[str], also: Collection[str] = ()) -> str:
    """The names of `known` and `also` (aliases) that are near `name`; where none is, the first few of `known`."""
    by_lower = {key.lower(): key for key in (*also, *known)}
    if near := difflib.get_close_matches(name.lower(), by_lower, n=3):
        return f"did you mean {', '.join(by_lower[key] for key in near)}?"
    shown = sorted(known)[:SHOWN]
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f"there is {', '.join(shown)}{more}"
