"""Which code makes a run: hashes of the module files of its method and its networks.

A method's file changes from one night to the next while its name stays, so results of one name need not be results of
one method. config.json has the code that trained a run, and tables keep apart what different code made.
"""

import hashlib
import importlib.metadata
import sys
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

from distiller_zoo import Method, method_class
from distiller_zoo.combination import CombinationSpec
from engine.protocol.plan import Code
from engine.records.environment import ROOT
from models import MODELS

DIGITS = 16  # hexadecimal, of a SHA-256


def code_of(method: str | None, models: Iterable[str]) -> Code:
    """Hash the module files that define a method, if there is one, and networks.

    For a method these are the files of its class, of the method classes that it inherits from, and of all parts of a
    combination; for networks the files of their builders, and the version of timm where it is used.
    """
    found = None if method is None else method_class(method)
    if found is None:
        classes, modules = [], set()
    elif isinstance(found, CombinationSpec):
        classes, modules = [part.cls for part in found.parts], {CombinationSpec.__module__}
    else:
        classes, modules = [found], set()
    bases = [base for cls in classes for base in cls.__mro__ if issubclass(base, Method) and base is not Method]
    modules |= {base.__module__ for base in bases} | {_builder_module(model) for model in models}
    files = sorted(file for file in map(_file_of, modules) if file is not None)
    code = {_name_of(file): _hash_of(file) for file in files}
    return code | ({"timm": importlib.metadata.version("timm")} if "models/timm_models.py" in code else {})


def changed_files(before: Code, now: Code) -> list[str]:
    """The files that differ between two versions, with those that only one of them has, in order."""
    return sorted(file for file in before.keys() | now.keys() if before.get(file) != now.get(file))


def _builder_module(model: str) -> str:
    build = MODELS[model].build
    while isinstance(build, partial):
        build = build.func
    return build.__module__


def _file_of(module: str) -> Path | None:
    """The file of an imported module; None for code without one, such as a notebook's."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return None if file is None else Path(file).resolve()


def _name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name


@cache
def _hash_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:DIGITS]


# At import, once: what is edited after the start of a process is not what it runs.
for _module in [name for name in sys.modules if name.startswith(("distiller_zoo.", "models."))]:
    if (_file := _file_of(_module)) is not None:
        _hash_of(_file)
