"""Flags that are made from annotated values: fields of recipes, options of methods."""

import argparse
import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args, get_origin

from common.command import integer, number
from common.messages import cut
from distiller_zoo.option_types import Range, Temperature, counts_epochs, kind_of, marks_of

MAY_BE_EMPTY = "may be empty"  # marks the annotation of a text that may be ""


class Several(tuple[Any, ...]):
    """The values of a flag that was given more than one."""


class OneOrSeveral(argparse.Action):
    """Stores a single value as it is, and more of them as `Several`; the flag takes one or more."""

    shown_as_one = True  # in --help

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any):
        super().__init__(option_strings, dest, nargs="+", **options)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if len(values) > 1 and all(isinstance(value, tuple) and len(value) == 1 for value in values):
            one = ",".join(str(value) for (value,) in values)
            raise argparse.ArgumentError(self, f"write the numbers of one run with commas: {cut(one)}")
        setattr(namespace, self.dest, values[0] if len(values) == 1 else Several(values))


class Flags(Protocol):
    """A parser, or a group of one."""

    def add_argument(self, *names: str, **options: Any) -> argparse.Action: ...


def add_flag(flags: Flags, name: str, annotation: Any, text: str) -> None:
    """Add --NAME for one or several values of the annotated type; the parsed namespace has what the user gives only.

    Raises:
        argparse.ArgumentError: there is such a flag.
    """
    options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
    kind = kind_of(annotation)
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif get_origin(kind) is Literal:
        options["choices"] = get_args(kind)
        if any("," in str(choice) for choice in get_args(kind)):  # {1,1,2} could be anything
            options["metavar"] = " | ".join(map(str, get_args(kind)))
    elif get_origin(kind) is tuple:
        options |= {"type": integers, "metavar": "N,N,..."}
    elif kind is float:
        options |= {"type": finite, "metavar": "FLOAT"}
    elif counts_epochs(annotation):
        options |= {"type": int, "metavar": "EPOCHS"}
    elif MAY_BE_EMPTY in marks_of(annotation, str):
        options |= {"type": any_text, "metavar": "STR"}
    else:
        options |= {"type": kind, "metavar": kind.__name__.upper()}
    if kind is not bool:
        options["action"] = OneOrSeveral
    flags.add_argument(f"--{name}", **options)


def in_words(value: Any) -> str:
    """The default of a flag as a user would give it: off, 0.05, 150,180,210, none for an empty one."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def any_text(text: str) -> str:
    """A type for argparse: any text, also an empty one."""
    return text


def finite(text: str) -> float:
    """A type for argparse: numbers without "nan" and "inf"."""
    given = number(text)
    if not math.isfinite(given):
        raise argparse.ArgumentTypeError(f"{cut(text)!r} is not a finite number")
    return given


def not_negative(text: str) -> float:
    """A type for argparse: finite numbers from 0 on."""
    given = finite(text)
    if given < 0:
        raise argparse.ArgumentTypeError(f"{given:g} is below 0")
    return given


def temperature(text: str) -> float:
    """A type for argparse: temperatures of softened predictions."""
    given = finite(text)
    for allowed in marks_of(Temperature, Range):
        if given not in allowed:
            raise argparse.ArgumentTypeError(f"{given:g} is not {allowed}")
    return given


def integers(text: str) -> tuple[int, ...]:
    """A type for argparse: integers with commas between them; an empty text is an empty tuple."""
    try:
        return tuple(integer(part) for part in text.split(",") if part)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{cut(text)!r} is not a list of integers such as 150,180,210") from None
