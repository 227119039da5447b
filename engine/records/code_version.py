"""Which code made a run: digests of what defines its method and its networks.

A method file changes from one night to the next while its name stays, so results that share a name need not share a
method. What they were made by stands in config.json, and tables keep apart what different code made.
"""

import importlib.metadata
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

from common.definitions import Definition, Definitions
from common.errors import RequestError
from distiller_zoo import method_class
from distiller_zoo.combination import CombinationSpec
from engine.records.environment import ROOT
from models.registry import MODELS

# What all methods and networks have in common says nothing about one of them; the commit in config.json has it.
SHARED = frozenset(
    f"distiller_zoo.{name}" for name in ("method", "registry", "building", "checks", "published")
) | frozenset(f"models.{name}" for name in ("registry", "contract", "features", "network", "published"))
SUITE = frozenset({"analysis", "benchmarking", "common", "dataset", "engine", "reporting", "models", "distiller_zoo"})

Sources = dict[str, str]  # files relative to the repository → digest of what is used of each


def sources_of(method: str, models: Iterable[str]) -> Sources:
    """What defines a method (all parts of a combination) and networks: their definitions and all that these use.

    Args:
        models: names of networks. Those of timm are known by its version.

    Raises:
        RequestError: a file that is imported later than the methods are is no Python any more.
    """
    cls = method_class(method)
    classes = {part.cls for part in cls.parts} if isinstance(cls, CombinationSpec) else {cls}
    used: dict[Path, set[Definition]] = defaultdict(set)
    _follow({(each.__module__, each.__name__) for each in classes}, "distiller_zoo", used)
    _follow({_builder(model) for model in models}, "models", used)
    found = {file.relative_to(ROOT).as_posix(): _read(file).digest(used[file]) for file in sorted(used)}
    return found | ({"timm": importlib.metadata.version("timm")} if "models/timm_models.py" in found else {})


def changed_files(before: Sources, now: Sources) -> list[str]:
    """The files that differ, those that came or went included, in order."""
    return sorted(file for file in before.keys() | now.keys() if before.get(file) != now.get(file))


def _builder(model: str) -> tuple[str, str]:
    """Module and name of what builds a network."""
    build = MODELS[model].build
    while isinstance(build, partial):
        build = build.func
    return build.__module__, build.__name__


def _follow(names: Iterable[tuple[str, str | None]], kind: str, used: dict[Path, set[Definition]]) -> None:
    """Add to `used` what names of modules need, as far as the package `kind` or a user's own code has it."""
    waiting, seen = list(names), set()
    while waiting:
        module, name = waiting.pop()
        file = None if (module, name) in seen or not _counts(module, kind) else _file(module)
        seen.add((module, name))
        if file is None:
            continue
        for each in _read(file).of(name):
            if each not in used[file]:
                used[file].add(each)
                waiting += [(module, own) for own in _read(file).own_names(each)]
                waiting += each.imports
                waiting += [(f"{source}.{part}", None) for source, part in each.imports if part]  # it may be a module


def _counts(module: str, kind: str) -> bool:
    top = module.partition(".")[0]
    return module not in SHARED and module != kind and (top == kind or top not in SUITE)


def _file(module: str) -> Path | None:
    """Where a module's code lies; None for what belongs to no one here: built in, installed, or no module at all."""
    loaded = sys.modules.get(module)
    try:
        origin = loaded.__file__ if loaded is not None else importlib.util.find_spec(module).origin
    except (AttributeError, ImportError, ValueError):
        return None
    if origin is None or not origin.endswith(".py"):
        return None
    file = Path(origin).resolve()
    own = file.is_relative_to(ROOT) and not {"site-packages", "dist-packages"} & set(file.parts)
    return file if own else None


@cache
def _text(file: Path) -> str:
    """A file as it was when it was first asked for: what is edited later is not what this process has imported."""
    return file.read_text(encoding="utf-8")


@cache
def _read(file: Path) -> Definitions:
    package = ".".join(file.relative_to(ROOT).parent.parts)
    try:
        return Definitions(_text(file), package)
    except (OSError, ValueError, SyntaxError) as error:
        raise RequestError(f"{file} has changed and cannot be read: {error}; mend it") from None


def _remember() -> None:
    """Read what was imported just now; it is parsed when a run asks for it, which most commands do not."""
    for name in [name for name in sys.modules if name.startswith(("distiller_zoo.", "models."))]:
        if (file := _file(name)) is not None:
            _text(file)


_remember()
