#!/usr/bin/env python3
"""Measure how long one image takes each distilled student on the CPU, as a ratio to its teacher.

Student and teacher predict in turns, in one process. Each run's folder gets latency.json, which compare.py reads.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

import torch

from benchmarking.latency import Turns, measure_in_turns
from common.command import DONE, at_least, guard, make_parser, one_of_several_paths, say
from common.errors import RequestError
from common.files import sha256_of, write_json
from common.json_files import object_or_none
from common.output_places import check_output_file
from common.user_paths import check_file
from dataset import DatasetEntry
from engine.checkpoints.exports.source import recorded_entry
from engine.checkpoints.find_weights import ONLY_WEIGHTS, WeightsChoice
from engine.checkpoints.read_checkpoint import is_own_file
from engine.checkpoints.run_weights import weights_file
from engine.checkpoints.weights import LoadedNetwork, build_network, load_network, read_weights
from engine.records.environment import describe_environment
from reporting.records.latency import FORMAT, LATENCY
from reporting.records.run import Run
from reporting.tables.build_report import DEFAULT_ROOT, find_runs

ROUNDS = 101


@dataclass(frozen=True)
class Recorded:
    """A teacher of a run, as the run has recorded it, or as `--path_t` gives it."""

    path: Path
    sha256: str
    model: str | None = None
    weights_key: str | None = None


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "roots",
        type=Path,
        nargs="*",
        metavar="ROOT",
        help=f"folders that hold runs at any depth (default: {DEFAULT_ROOT})",
    )
    parser.add_argument(
        "--path_t",
        type=one_of_several_paths,
        nargs="+",
        default=[],
        metavar="FILE",
        help="teachers of students that were trained alone, and where teachers lie that have been moved; files or the "
        "folders of their runs (default: none)",
    )
    parser.add_argument("--overwrite", action="store_true", help="measure anew where the same weights were measured")
    parser.add_argument("--threads", type=at_least(1), default=1, metavar="N", help="threads of the CPU (default: 1)")
    parser.add_argument(
        "--rounds",
        type=at_least(1),
        default=ROUNDS,
        metavar="N",
        help=f"rounds of each network, of which the median counts (default: {ROUNDS})",
    )
    return parser.parse_intermixed_args(argv)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    teachers = [weights_file(path, "--path_t") for path in arguments.path_t]
    for path in teachers:
        check_file(path, "name a file of weights", "--path_t")
    roots = list(map(str, arguments.roots)) or [DEFAULT_ROOT]
    found, _ = find_runs(roots)
    runs = [run for run in found if run.kind == "student"]
    if not runs:
        raise RequestError(f"no finished runs of students below {', '.join(roots)}; name a folder that holds some")
    for run in runs:
        check_output_file("ROOT", run.folder / LATENCY, overwrite=True)
    given = [Recorded(path, sha256_of(path)) for path in teachers]
    torch.set_num_threads(arguments.threads)
    environment = describe_environment(torch.device("cpu"))
    for run in runs:
        try:
            say(f"{run.path}: {measure(run, given, arguments.rounds, environment, arguments.overwrite)}")
        except RequestError as refusal:
            say(f"{run.path}: left out: {str(refusal).splitlines()[0]}")
    return DONE


def measure(run: Run, given: Sequence[Recorded], rounds: int, environment: dict[str, Any], overwrite: bool) -> str:
    """Measure a run and write its file; returns what there is to say of it.

    Raises:
        RequestError: the weights of the student or of a teacher are missing, or there is no teacher.
    """
    weights = weights_file(run.folder, "ROOT")
    check_file(weights, "bring the weights back", "")
    digest, target = sha256_of(weights), run.folder / LATENCY
    if not overwrite and os.path.lexists(target):
        former = object_or_none(target) or {}
        if former.get("format") != FORMAT:
            raise RequestError(f"{LATENCY} is not a file of this script; --overwrite replaces it")
        if (former.get("weights") or {}).get("sha256") == digest:
            return f"measured before, on {former.get('processor')}, threads {former.get('threads')} (--overwrite: anew)"
    file = read_weights(weights)
    if not is_own_file(file.content):
        raise RequestError(f"{weights.name} is not a file of this suite")
    entry = recorded_entry(file.content)
    student = build_network(file, entry)
    teachers = [load_teacher(teacher, entry) for teacher in teachers_of(run, given)]
    turns = measure_in_turns(student.network, [each.network for each in teachers], entry.image_size, rounds)
    write_json(target, content(turns, environment) | of_networks(weights, student, teachers, entry))
    names = "+".join(teacher.arch for teacher in teachers)
    return f"{turns.student_ms:.2f} ms, {names} {turns.teacher_ms:.2f} ms: ratio {turns.ratio:.3f}"


def teachers_of(run: Run, given: Sequence[Recorded]) -> list[Recorded]:
    """The teachers of a run; of a student alone those that were given. Raises RequestError if they are not there."""
    teachers = list(recorded_teachers(run)) or list(given)
    if not teachers:
        raise RequestError("it has no teacher to be compared with; name one with --path_t FILE")
    moved = {teacher.sha256: teacher.path for teacher in given}
    found = []
    for teacher in teachers:
        path = moved.get(teacher.sha256, teacher.path)
        if not path.is_file() or sha256_of(path) != teacher.sha256:
            raise RequestError(
                f"its teacher {teacher.path} is no longer there or has changed; say where it is with --path_t FILE"
            )
        found.append(Recorded(path, teacher.sha256, teacher.model, teacher.weights_key))
    return found


def recorded_teachers(run: Run) -> Iterator[Recorded]:
    for teacher, entry in zip(run.teachers, run.config["teachers"], strict=True):
        key = entry.get("weights_key")
        yield Recorded(
            Path(str(entry.get("path"))), teacher.sha256, teacher.model, key if isinstance(key, str) else None
        )


def load_teacher(teacher: Recorded, entry: DatasetEntry) -> LoadedNetwork:
    """The network of a teacher, for the images of its students."""
    choice = ONLY_WEIGHTS if teacher.weights_key is None else WeightsChoice(key=teacher.weights_key)
    return load_network(teacher.path, entry, arch=teacher.model, choice=choice)


def content(turns: Turns, environment: dict[str, Any]) -> dict[str, Any]:
    """What the file says of the measurement."""
    return {
        "format": FORMAT,
        "ratio": turns.ratio,
        "student_ms": turns.student_ms,
        "teacher_ms": turns.teacher_ms,
        "rounds_ms": {"student": turns.student, "teacher": turns.teacher},
        "rounds": len(turns.student),
        "batch_size": 1,
        "precision": "fp32",
        **{name: environment[name] for name in ("processor", "threads", "cores", "torch", "system")},
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def of_networks(
    weights: Path, student: LoadedNetwork, teachers: Sequence[LoadedNetwork], entry: DatasetEntry
) -> dict[str, Any]:
    """What the file says of the networks that were measured."""
    return {
        "image_size": entry.image_size,
        "weights": {"file": weights.name, "model": student.arch, "sha256": student.sha256},
        "teachers": [{"model": teacher.arch, "sha256": teacher.sha256} for teacher in teachers],
    }


if __name__ == "__main__":
    script.run(main, __file__)
