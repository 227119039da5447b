"""The networks that are looked at: read from their files, each with a name that pictures and files call it by."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import RequestError
from dataset import DatasetEntry
from engine.checkpoints.inference_network import InferenceNetwork
from engine.checkpoints.weights import load_network
from reporting.records.untrusted_json import BrokenError, read_object

TEACHER = "teacher"  # what pictures call it; no student is called so


@dataclass(frozen=True)
class Subject:
    """A network and where it is from; `name` is unique within a command and fit for a folder."""

    name: str
    path: Path
    arch: str
    sha256: str
    network: InferenceNetwork


def load_subject(path: Path, entry: DatasetEntry, name: str, arch: str | None, allow_namespace: bool) -> Subject:
    """Raises RequestError where the file does not hold a network for this data set (`load_network`)."""
    loaded = load_network(path, entry, arch=arch, allow_namespace=allow_namespace)
    return Subject(name, path, loaded.arch, loaded.sha256, loaded.network)


def load_students(
    paths: Sequence[Path], entry: DatasetEntry, archs: Sequence[str] | None, allow_namespace: bool = False
) -> list[Subject]:
    """The students, named by the method of the run they lie in, or else by their files.

    Args:
        archs: names of their networks where the files do not say: one for all, or one a file.

    Raises:
        RequestError: other numbers of names and files, or a file that cannot be used.
    """
    archs = list(archs or [None])
    archs = archs * len(paths) if len(archs) == 1 else archs
    if len(archs) != len(paths):
        raise RequestError(
            f"--model_s names {len(archs)} networks, and there are {len(paths)} students; give one name, or one a file"
        )
    _, *names = unique_names([TEACHER, *map(name_of, paths)])
    return [
        load_subject(path, entry, name, arch, allow_namespace)
        for path, name, arch in zip(paths, names, archs, strict=True)
    ]


def name_of(path: Path) -> str:
    """The method's label in the `config.json` beside a checkpoint ("kd", "crd+kd"); else the file's name."""
    try:
        label = read_object(path.parent / "config.json").get("label")
    except BrokenError:
        label = None
    return safe_name(label if isinstance(label, str) and label else path.stem)


def safe_name(text: str) -> str:
    """`text` as a part of file names: anything but letters, digits, "+", "-", "." and "_" becomes "_"."""
    return re.sub(r"[^A-Za-z0-9+._-]", "_", text).lstrip(".") or "_"


def unique_names(names: Sequence[str]) -> list[str]:
    """The same names, a number added to those that are taken, on file systems without capitals too."""
    taken: set[str] = set()
    made = []
    for name in names:
        candidate, number = name, 1
        while candidate.lower() in taken:
            number += 1
            candidate = f"{name}-{number}"
        taken.add(candidate.lower())
        made.append(candidate)
    return made
