"""Flags that are made from annotated values: fields of recipes, options of methods."""

import argparse
import math
from typing import Any, Literal, Protocol, get_args, get_origin

from distiller_zoo import Epochs


class Flags(Protocol):
    """A parser, or a group of one."""

    def add_argument(self, *names: str, **options: Any) -> argparse.Action: ...


def add_flag(flags: Flags, name: str, annotation: Any, text: str) -> None:
    """Add --NAME for a value of the annotated type; it is in the parsed namespace only if the user gives it.

    Raises:
        argparse.ArgumentError: there is such a flag.
    """
    options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
    if annotation is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif get_origin(annotation) is Literal:
        options["choices"] = get_args(annotation)
        if any("," in str(choice) for choice in get_args(annotation)):  # {1,1,2} could be anything
            options["metavar"] = " | ".join(map(str, get_args(annotation)))
    elif get_origin(annotation) is tuple:
        options |= {"type": integers, "metavar": "N,N,..."}
    elif annotation is float:
        options |= {"type": finite, "metavar": "FLOAT"}
    elif annotation is Epochs:
        options |= {"type": int, "metavar": "EPOCHS"}
    else:
        options |= {"type": annotation, "metavar": annotation.__name__.upper()}
    flags.add_argument(f"--{name}", **options)


def in_words(value: Any) -> str:
    """The default of a flag as a user would give it: off, 0.05, 150,180,210, none for an empty one."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def finite(text: str) -> float:
    """A type for argparse: numbers without "nan" and "inf"."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return number


def positive(text: str) -> float:
    """A type for argparse: finite numbers above 0."""
    number = finite(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def integers(text: str) -> tuple[int, ...]:
    """A type for argparse: integers with commas between them; an empty text is an empty tuple."""
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 150,180,210") from None
