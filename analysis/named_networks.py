"""Networks to analyse: loaded from checkpoints, each with a unique name for pictures and folders."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.command import say
from common.errors import RequestError
from common.json_files import BrokenError, read_object
from dataset import DatasetEntry
from engine.checkpoints.find_weights import ONLY_WEIGHTS, WeightsChoice
from engine.checkpoints.inference_network import InferenceNetwork
from engine.checkpoints.parts_of_file import TOP
from engine.checkpoints.read_checkpoint import is_own_file
from engine.checkpoints.weights import build_network, read_weights
from reporting.tables.wording import NAMES

LONGEST_NAME = 180  # characters of a name, so that a file's is below 255 with what comes before and after it
TEACHER = "teacher"  # reserved: no student gets this name
ALONE = NAMES["student"]


@dataclass(frozen=True)
class NamedNetwork:
    """A network and its checkpoint; `name` is unique within a command and can be a folder's name."""

    name: str
    path: Path
    arch: str
    sha256: str
    network: InferenceNetwork


def load_named_network(
    path: Path,
    entry: DatasetEntry,
    name: str,
    arch: str | None,
    allow_namespace: bool,
    choice: WeightsChoice = ONLY_WEIGHTS,
) -> NamedNetwork:
    """Load a network.

    Args:
        choice: which weights of a file from elsewhere; a file of this suite has one network in it.

    Raises:
        RequestError: the file holds no network for this data set (`load_network`).
    """
    file = read_weights(path, allow_namespace)
    only = replace(ONLY_WEIGHTS, model_flag=choice.model_flag)
    if is_own_file(file.content) and choice != only:
        if choice.key != TOP:
            say(f"{path} is a file of this suite, with one network in it: --weights_key and --ema are for the others")
        choice = only
    loaded = build_network(file, entry, arch=arch, choice=choice)
    if loaded.note:
        say(loaded.note)
    return NamedNetwork(name, path, loaded.arch, loaded.sha256, loaded.network)


def load_students(
    paths: Sequence[Path],
    entry: DatasetEntry,
    archs: Sequence[str] | None,
    allow_namespace: bool = False,
    choices: Sequence[WeightsChoice] = (ONLY_WEIGHTS,),
) -> list[NamedNetwork]:
    """Load the students; each is named by the method of its run, or by its file.

    Args:
        archs: architectures where the files do not say: one for all students, or one for each.
        choices: which weights of the files: one for all students, or one for each.

    Raises:
        RequestError: the number of names is wrong, or a file cannot be used.
    """
    archs = list(archs or [None])
    archs = archs * len(paths) if len(archs) == 1 else archs
    if len(archs) != len(paths):
        raise RequestError(
            f"--model_s names {len(archs)} networks for {len(paths)} students; give one name, or one for each student"
        )
    choices = list(choices) * len(paths) if len(choices) == 1 else choices
    _, *names = unique_names([TEACHER, *map(name_of, paths)])
    return [
        load_named_network(path, entry, name, arch, allow_namespace, choice)
        for path, name, arch, choice in zip(paths, names, archs, choices, strict=True)
    ]


def name_of(path: Path) -> str:
    """Label in the `config.json` beside a checkpoint ("kd", "crd+kd"), or the file's name without it.

    A run without a teacher is the student alone, and is called what tables call it.
    """
    try:
        config = read_object(path.parent / "config.json")
    except BrokenError:
        config = {}
    label = config.get("label")
    if not isinstance(label, str) or not label:
        return safe_name(path.stem)
    if config.get("teachers") == []:
        return " ".join([ALONE, *label.split()[1:]])
    return safe_name(label)


def safe_name(text: str) -> str:
    """Make `text` a valid part of file names: all but letters, digits, "+", "-", "." and "_" become "_"."""
    return re.sub(r"[^A-Za-z0-9+._-]", "_", text).lstrip(".")[:LONGEST_NAME] or "_"


def unique_names(names: Sequence[str]) -> list[str]:
    """Add a number to names that occur again; case is ignored, as some file systems do."""
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
