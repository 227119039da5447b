"""Flags and checks that the benchmark scripts share."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarking.rounds import DEFAULTS, Settings
from common.errors import RequestError
from common.output_places import check_output_file
from distiller_zoo import METHODS, canonical_method
from engine.device.torchrun import is_distributed
from models import MODELS


def add_timing_arguments(parser: ArgumentParser) -> None:
    """Add --steps, --rounds, --warmup, --threads and --json."""
    for name, unit in (("steps", "steps of a round"), ("rounds", "rounds"), ("warmup", "uncounted steps at first")):
        by_device = ", ".join(f"{getattr(settings, name)} on {device}" for device, settings in DEFAULTS.items())
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{unit} (default: {by_device})")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch on the CPU (default: torch's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")


def check_timing(arguments: Namespace) -> None:
    """Check these flags and set the number of threads. Raises RequestError, also under torchrun."""
    if is_distributed():
        raise RequestError("a benchmark measures one process, and torchrun started several; start it with python")
    for name in ("steps", "rounds", "warmup", "threads"):
        check_count(name, getattr(arguments, name), least=1)
    if arguments.json is not None:
        check_output_file("--json", arguments.json, advice="choose another name or remove the file")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)


def check_count(name: str, given: int | None, least: int) -> None:
    """Raises RequestError if a count is given and below `least`."""
    if given is not None and given < least:
        raise RequestError(f"--{name} is {given}; it must be {least} or more")


def resolve_settings(arguments: Namespace, device: str) -> Settings:
    """Counts from the command line, by default those of the device ("cpu" or "cuda")."""
    given = {name: getattr(arguments, name) for name in ("steps", "rounds", "warmup")}
    return replace(DEFAULTS[device], **{name: value for name, value in given.items() if value is not None})


def resolve_pair(flag: str, text: str) -> tuple[str, str]:
    """Names of teacher and student from TEACHER:STUDENT. Raises RequestError."""
    if text.count(":") != 1:
        raise RequestError(f"{flag} {text}: give TEACHER:STUDENT, for instance resnet32x4:resnet8x4")
    teacher, student = text.split(":")
    return MODELS.canonical(teacher), MODELS.canonical(student)


def resolve_methods(names: Sequence[str]) -> list[str]:
    """Names of methods, each once and in the given order; `all` stands for every method. Raises RequestError."""
    return list(dict.fromkeys(canonical_method(name) for name in (METHODS if names == ["all"] else names)))
