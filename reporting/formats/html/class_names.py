"""Names of classes on the page: cut, on one line, and without effect on the text around them."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from common.json_files import printable

LONGEST = 40  # letters
RIGHT_TO_LEFT = ("R", "AL", "AN")  # classes of letters in Unicode that turn the direction of a line
ISOLATE, END = "\u2068", "\u2069"  # around such a name: what follows keeps its place


@dataclass(frozen=True)
class ClassNames:
    """Names of the classes of a data set, by label; empty where they have none."""

    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: object) -> "ClassNames":
        """The names in a record, which may be anything."""
        return cls(tuple(shown(str(name)) for name in value) if isinstance(value, list) else ())

    def name(self, label: int) -> str:
        """The name of a class; "" where it has none."""
        return self.names[label] if 0 <= label < len(self.names) else ""

    def text(self, label: int) -> str:
        """The number and the name of a class, once where they are the same."""
        name = self.name(label)
        return f"{label} {name}" if name not in ("", str(label)) else str(label)

    def say_more(self, labels: Iterable[int]) -> bool:
        """Returns whether some class has a name that is not its number."""
        return any(self.text(label) != str(label) for label in labels)


def shown(name: str) -> str:
    """Returns a name as the page shows it. The template escapes what HTML would read."""
    name = printable(name)
    name = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    turns = any(unicodedata.bidirectional(letter) in RIGHT_TO_LEFT for letter in name)
    return f"{ISOLATE}{name}{END}" if turns else name
