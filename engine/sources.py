"""Which code made a run: digests of the files that define its method and its network.

A method file changes from one night to the next while its name stays, so results that share a name need not share a
method. What they were made by stands in config.json, and tables keep apart what different code made.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from distiller_zoo import method_class
from engine.environment import ROOT
from models.registry import MODELS

# What all methods and networks have in common says nothing about one of them; the commit in config.json has it.
SHARED = frozenset(
    f"distiller_zoo.{name}" for name in ("method", "registry", "building", "checks", "published")
) | frozenset(f"models.{name}" for name in ("registry", "contract", "features", "network", "published"))
SUITE = frozenset({"analysis", "benchmarking", "common", "dataset", "engine", "reporting", "models", "distiller_zoo"})
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
DIGITS = 16  # hexadecimal, of each file's SHA-256

Sources = dict[str, str]  # files relative to the repository → digest


def sources_of(method: str, models: Iterable[str]) -> Sources:
    """The files that define a method (all parts of a combination) and networks, each with what it imports of its kind.

    Comments, docstrings and layout are no part of the digests. Networks of timm are known by its version.
    """
    cls = method_class(method)
    modules = {base.__module__ for part in getattr(cls, "parts", ()) for base in part.cls.__mro__}
    modules |= {base.__module__ for base in cls.__mro__}
    files = _closure(modules, "distiller_zoo") | _closure(map(_module_of, models), "models")
    found = {_name(file): _digest_of(file) for file in sorted(files)}
    return found | ({"timm": importlib.metadata.version("timm")} if "models/timm_models.py" in found else {})


def _module_of(model: str) -> str:
    """Where a network's builder is defined."""
    build = MODELS[model].build
    while isinstance(build, partial):
        build = build.func
    return build.__module__


def changed_files(before: Sources, now: Sources) -> list[str]:
    """The files that differ, those that came or went included, in order."""
    return sorted(file for file in before.keys() | now.keys() if before.get(file) != now.get(file))


def digest(code: str) -> str:
    """Of what Python code does: equal for two texts that differ in comments, docstrings or layout alone.

    Raises:
        SyntaxError: it is no Python.
    """
    return hashlib.sha256(repr(_shape(ast.parse(code))).encode()).hexdigest()[:DIGITS]


@cache
def _text_of(file: Path) -> str:
    """A file as it was when it was first asked for: what is edited later is not what this process has imported."""
    return file.read_text(encoding="utf-8")


@cache
def _digest_of(file: Path) -> str:
    return digest(_text_of(file))


def _shape(node: Any) -> Any:
    """A syntax tree as nested tuples without what is empty, which `ast.dump` writes otherwise in each Python."""
    if isinstance(node, list):
        return tuple(_shape(each) for each in node)
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = {name: getattr(node, name, None) for name in node._fields}
    if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        parts["body"] = node.body[1:]
    return (type(node).__name__, *((name, _shape(value)) for name, value in parts.items() if value not in (None, [])))


def _closure(modules: Iterable[str], kind: str) -> set[Path]:
    """The files behind modules and all that they import, as far as the package `kind` or a user's own code has it."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if name in found or name in SHARED or name == kind or (top in SUITE and top != kind):
            continue
        file = _file(name)
        if file is not None:
            found[name] = file
            waiting += _imports(name, file)
    return set(found.values())


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


def _imports(module: str, file: Path) -> Iterator[str]:
    """Names that may be modules: `from a import b` can mean a.b."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(_text_of(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) + 1 - node.level]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


# All that was imported just now; the rest of what a user's method imports is read when its first run is planned.
for _name_of_module in [name for name in sys.modules if name.startswith(("distiller_zoo.", "models."))]:
    if (_found := _file(_name_of_module)) is not None:
        _text_of(_found)
