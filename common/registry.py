"""Names to things, with aliases; a duplicate is a programming error, an unknown name a user's error."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from common.errors import RequestError

T = TypeVar("T")


class Registry(Generic[T]):
    """A dictionary of named things of one `kind` ("method", "model"), kept in order of registration."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._aliases: dict[str, str] = {}

    def add(self, name: str, entry: T, aliases: Iterable[str] = ()) -> None:
        """Register `entry`; raises ValueError where the name or an alias is taken."""
        for key in (name, *aliases):
            if key in self._entries or key in self._aliases:
                raise ValueError(f"{self.kind} {key!r} is registered twice")
        self._entries[name] = entry
        self._aliases.update(dict.fromkeys(aliases, name))

    def canonical(self, name: str) -> str:
        """The registered name behind a name or alias; raises RequestError with the nearest names."""
        if name in self._entries:
            return name
        if name in self._aliases:
            return self._aliases[name]
        known = {key.lower(): key for key in (*self._aliases, *self._entries)}
        near = [known[key] for key in difflib.get_close_matches(name.lower(), known, n=3)] or sorted(self._entries)
        raise RequestError(
            f"unknown {self.kind} {name!r}; did you mean {', '.join(near)}? "
            f"(`python train_student.py --list` shows all)"
        )

    def __getitem__(self, name: str) -> T:
        return self._entries[self.canonical(name)]

    def __contains__(self, name: str) -> bool:
        return name in self._entries or name in self._aliases

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> Iterable[tuple[str, T]]:
        return self._entries.items()

    def aliases_of(self, name: str) -> list[str]:
        return [alias for alias, target in self._aliases.items() if target == name]


def import_all_modules(package_name: str, package_path: Iterable[str]) -> None:
    """Import every module of a package, so that a new file registers itself and nothing else changes."""
    for module in sorted(pkgutil.iter_modules(package_path), key=lambda m: m.name):
        importlib.import_module(f"{package_name}.{module.name}")
