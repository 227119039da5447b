"""Annotations of options: the values that an option may have, and the option that it acts beside.

    def __init__(self, pair, *, mine_T: Temperature = 4.0, mine_share: Annotated[float, Range(0, 1)] = 0.5)

One rule holds for all methods: `check_options` reads these marks, before a method is built. An option annotated by a
plain `int` or `float` may have any finite value.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from common.errors import RequestError
from common.messages import cut

MARK_OF_EPOCHS = "epochs"
Mark = TypeVar("Mark")


@dataclass(frozen=True)
class Range:
    """The numbers from `least` to `most`.

    Attributes:
        open_below, open_above: leave out the bound itself.
    """

    least: float = -math.inf
    most: float = math.inf
    open_below: bool = False
    open_above: bool = False

    def __contains__(self, value: float) -> bool:
        """True for a finite number of the range."""
        if not self.least <= value <= self.most or value in (math.inf, -math.inf):  # nan is in no range
            return False
        return not ((self.open_below and value == self.least) or (self.open_above and value == self.most))

    def __str__(self) -> str:
        if math.isinf(self.least) and math.isinf(self.most):
            return "a finite number"
        if math.isinf(self.most):
            return f"a number {'above' if self.open_below else 'of at least'} {_short(self.least)}"
        end = "and below" if self.open_above else "and at most" if self.open_below else "to"
        return f"a number {'above' if self.open_below else 'from'} {_short(self.least)} {end} {_short(self.most)}"


@dataclass(frozen=True)
class OnlyWith:
    """Marks an option that acts only where another option of the method has one of these values."""

    option: str
    values: tuple[object, ...]

    def needed(self) -> str:
        """The flag that makes the marked option act."""
        value = self.values[0]
        return f"--{self.option}" if value is True else f"--{self.option} {value}"


@dataclass(frozen=True)
class OnlyWithTeachers:
    """Marks an option that acts only where there are so many teachers, or more."""

    fewest: int

    def needed(self) -> str:
        """The flag that makes the marked option act."""
        return f"{self.fewest} teachers in --path_t"


@dataclass(frozen=True)
class LossWeight:
    """Marks a weight of a part of the method's own loss: where all of them are 0, the method teaches nothing."""


# An option that counts epochs: its default is meant for a run of full length, and a shorter run takes a share of it in
# proportion (`engine.protocol.options.default_options`).
MOST_EPOCHS = 100_000
Epochs = Annotated[int, Range(0, MOST_EPOCHS), MARK_OF_EPOCHS]
# Beyond these bounds softened predictions are one class, or rounding errors, in float32.
Temperature = Annotated[float, Range(1e-3, 1e3)]
AnyWeight = Annotated[float, Range(0)]  # γ, α and β
Weight = Annotated[float, Range(0, 1e9)]
PartWeight = Annotated[float, Range(0, 1e9), LossWeight()]
Exponent = Annotated[float, Range(0, 100, open_below=True)]
Share = Annotated[float, Range(0, 1, open_above=True)]
StepSize = Annotated[float, Range(0, 100)]
# A layer or an embedding; the widest networks have a few thousand.
Width = Annotated[int, Range(1, 65_536)]
# Entries of a memory or a queue: as many images as the largest data sets have.
Entries = Annotated[int, Range(1, 100_000_000)]
# Modules that are built one after the other.
Modules = Annotated[int, Range(1, 64)]


def kind_of(annotation: Any) -> Any:
    """The type of an option's values, without marks."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def marks_of(annotation: Any, kind: type[Mark]) -> list[Mark]:
    """The marks of a kind that an annotation carries, in order."""
    marks = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return [mark for mark in marks if isinstance(mark, kind)]


def counts_epochs(annotation: Any) -> bool:
    """True for `Epochs`, also with further marks."""
    return MARK_OF_EPOCHS in marks_of(annotation, str)


def check_option(name: str, value: object, annotation: Any) -> None:
    """Raise RequestError unless an option may have the value."""
    kind = kind_of(annotation)
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise RequestError(f"--{name} is {cut(value)}; choose {', '.join(map(str, get_args(kind)))}")
    if kind in (int, float):
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise RequestError(f"--{name} is {cut(repr(value))}; give a number")
        if kind is int and not isinstance(value, int):
            raise RequestError(f"--{name} is {cut(value)}; give a whole number")
        for allowed in marks_of(annotation, Range) or [Range()]:
            if value not in allowed:
                raise RequestError(f"--{name} is {cut(value)}; give {allowed}")


def check_options(options: Mapping[str, object], known: Mapping[str, Parameter]) -> None:
    """Raise RequestError unless each option may have its value, and a part of the own loss has a weight.

    Args:
        options: given values by name; the others are at their defaults.
        known: all options of the method.
    """
    for name, value in options.items():
        check_option(name.split(".")[-1], value, known[name].annotation)
    weights = [name for name, parameter in known.items() if marks_of(parameter.annotation, LossWeight)]
    if weights and not any(options.get(name, known[name].default) for name in weights):
        flags = " and ".join(f"--{name.split('.')[-1]}" for name in weights)
        raise RequestError(f"{flags}: every part of the method's own loss has weight 0; give one of them more")


def idle_options(
    values: Mapping[str, object], known: Mapping[str, Parameter], teachers: int | None = None
) -> dict[str, str]:
    """The options that cannot act beside the others' values, each with the flag that would make it act.

    Args:
        values: of all options of the method.
        known: its options.
        teachers: their number, if that counts.
    """
    idle: dict[str, str] = {}
    for name, parameter in known.items():
        owner = name.rpartition(".")[0]
        for beside in marks_of(parameter.annotation, OnlyWith):
            other = f"{owner}.{beside.option}" if owner and f"{owner}.{beside.option}" in values else beside.option
            if values[other] not in beside.values:
                idle[name] = beside.needed()
        for needs in marks_of(parameter.annotation, OnlyWithTeachers):
            if teachers is not None and teachers < needs.fewest:
                idle[name] = needs.needed()
    return idle


def _short(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"
