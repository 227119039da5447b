#!/usr/bin/env python3
"""Exit with 0 if this python has the packages of a file of requirements in their versions and imports torch.

Else print the first reason and exit with 1: `python scripts/check_pins.py requirements.txt`. For scripts/setup.sh,
which asks any python, so it imports nothing of the suite.
"""

import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST = (3, 11)


def pins(path: Path) -> Iterator[tuple[str, str]]:
    """The names and versions of a file with lines NAME==VERSION, and of the files that it names by -r."""
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["-r"]:
            yield from pins(path.parent / words[1])
        elif words and "==" in words[0]:
            name, _, version = words[0].partition("==")
            yield name, version


def unmet(path: Path) -> str:
    """The first thing that is missing; "" if there is nothing. A local version such as 2.11.0+cpu is 2.11.0."""
    if sys.version_info < OLDEST:
        return f"it is Python {sys.version_info[0]}.{sys.version_info[1]}"
    for name, version in pins(path):
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return f"it has no {name}"
        if installed.partition("+")[0] != version:
            return f"it has {name} {installed}, not {version}"
    try:
        importlib.import_module("torch")
    except Exception as error:
        return f"it cannot import torch ({type(error).__name__})"
    return ""


def main(argv: list[str]) -> int:
    reason = unmet(Path(argv[0]))
    if reason:
        print(reason)
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
