"""Names to things, with aliases. A duplicate name is a programming error, an unknown name a user's error."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from common.errors import RequestError
from common.messages import did_you_mean, place_imported, words_of

T = TypeVar("T")


class Registry(Generic[T]):
    """A dictionary of named things of one `kind` ("method", "model"), in the order of registration."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._aliases: dict[str, str] = {}
        self._problem: RequestError | None = None

    def add(self, name: str, entry: T, aliases: Iterable[str] = ()) -> None:
        """Register `entry`.

        Raises:
            ValueError: the name or an alias is taken; the message names the file that registered it first.
        """
        for key in (name, *aliases):
            if key in self._entries or key in self._aliases:
                first = self._entries[self._aliases.get(key, key)]
                where = f", first in {_file_of(first)}" if _file_of(first) else ""
                raise ValueError(f"{self.kind} {key!r} is registered twice{where}; rename one of them")
        self._entries[name] = entry
        self._aliases.update(dict.fromkeys(aliases, name))

    def add_package(self, name: str, path: Iterable[str]) -> None:
        """Import every module of a package, which register what they define: a new file needs no other change.

        A module that cannot be imported is reported when the registry is first used, not here: the scripts import
        this package before they can report anything.

        Args:
            name: of the package.
            path: its folders (`__path__`).
        """
        try:
            import_all_modules(name, path)
        except RequestError as problem:
            self._problem = problem

    def check(self) -> None:
        """Raise the RequestError of a module that could not be imported, if there was one."""
        if self._problem is not None:
            raise self._problem

    @contextmanager
    def temporarily(self, entries: Mapping[str, T] | None = None) -> Iterator[None]:
        """Undo, on leaving, everything registered within; `entries` are added or replaced at once.

        For tests and notebooks:

            with METHODS.temporarily():
                register_method("mine")(Mine)
        """
        before = dict(self._entries), dict(self._aliases)
        self._entries.update(entries or {})
        try:
            yield
        finally:
            self._entries, self._aliases = before

    def canonical(self, name: str) -> str:
        """The registered name behind a name or alias.

        Raises:
            RequestError: unknown name; the message has the nearest ones. Or a module could not be imported.
        """
        self.check()
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
        self.check()
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> Iterable[tuple[str, T]]:
        """The names, without aliases, and their entries."""
        self.check()
        return self._entries.items()

    def aliases_of(self, name: str) -> list[str]:
        """The other names of a registered name."""
        return [alias for alias, target in self._aliases.items() if target == name]


def _file_of(entry: object) -> str | None:
    """FOLDER/FILE of the class or function that was registered, also as the `build` or `load` of a record."""
    for made_by in (entry, *(getattr(entry, name, None) for name in ("build", "load"))):
        while isinstance(made_by, partial):
            made_by = made_by.func
        if inspect.isclass(made_by) or inspect.isfunction(made_by):
            return "/".join(Path(inspect.getfile(made_by)).parts[-2:])
    return None


def import_all_modules(package_name: str, package_path: Iterable[str]) -> None:
    """Import every module of a package.

    Raises:
        RequestError: one of them cannot be imported; the message names its file and line, and a command that shows
            the whole traceback.
    """
    for folder in map(Path, package_path):
        for module in sorted(pkgutil.iter_modules([str(folder)]), key=lambda m: m.name):
            name = f"{package_name}.{module.name}"
            try:
                importlib.import_module(name)
            except Exception as error:
                place = place_imported(error, folder) or f"{folder.name}/{module.name}.py"
                raise RequestError(
                    f"{place}: {words_of(error)}\n"
                    f'fix the file or move it away; python -c "import {name}" shows the whole traceback'
                ) from error
