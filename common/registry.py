"""Names to things, with aliases; a duplicate is a programming error, an unknown name a user's error."""

import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from common.command import end_in_short
from common.errors import RequestError
from common.raised import place_imported, words_of
from common.words import did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """A dictionary of named things of one `kind` ("method", "model"), kept in order of registration."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._aliases: dict[str, str] = {}
        self._files: dict[str, str] = {}

    def add(self, name: str, entry: T, aliases: Iterable[str] = ()) -> None:
        """Register `entry`; raises ValueError where the name or an alias is taken, with the file that has it."""
        for key in (name, *aliases):
            if key in self._entries or key in self._aliases:
                first = self._files.get(self._aliases.get(key, key))
                raise ValueError(f"{self.kind} {key!r} is registered twice, first in {first}; rename one of them")
        self._entries[name] = entry
        self._files[name] = _registering_file()
        self._aliases.update(dict.fromkeys(aliases, name))

    @contextmanager
    def temporarily(self, entries: Mapping[str, T] | None = None) -> Iterator[None]:
        """Undo, on leaving, everything registered within; `entries` are added or replaced at once.

        For tests and notebooks:

            with METHODS.temporarily():
                register_method("mine")(Mine)
        """
        before = dict(self._entries), dict(self._aliases), dict(self._files)
        self._entries.update(entries or {})
        try:
            yield
        finally:
            self._entries, self._aliases, self._files = before

    def canonical(self, name: str) -> str:
        """The registered name behind a name or alias; raises RequestError with the nearest names."""
        if name in self._entries:
            return name
        if name in self._aliases:
            return self._aliases[name]
        near = did_you_mean(name, self._entries, self._aliases)
        raise RequestError(f"unknown {self.kind} {name!r}; {near} (`python train_student.py --list` shows all)")

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


def _registering_file() -> str:
    """FOLDER/FILE whose code is being run as a module, which is what registers."""
    frame = sys._getframe()
    while frame.f_code.co_name != "<module>" and frame.f_back is not None:
        frame = frame.f_back
    return "/".join(Path(frame.f_code.co_filename).parts[-2:])


def import_all_modules(package_name: str, package_path: Iterable[str]) -> None:
    """Import every module of a package, so that a new file registers itself and nothing else changes.

    Raises:
        RequestError: one of them cannot be imported, with the file and the line. A script that ends by it, which can
            guard no import of its own, says it in short all the same.
    """
    for module in sorted(pkgutil.iter_modules(package_path), key=lambda m: m.name):
        name = f"{package_name}.{module.name}"
        try:
            importlib.import_module(name)
        except Exception as error:
            folder = Path(module.module_finder.path)
            place = place_imported(error, folder) or f"{folder.name}/{module.name}.py"
            problem = RequestError(
                f"{place}: {words_of(error)}\n"
                f'mend the file or move it away; python -c "import {name}" shows the whole traceback'
            )
            end_in_short(problem)
            raise problem from error
