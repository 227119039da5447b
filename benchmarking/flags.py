"""The flags and checks that benchmarks share: how much is timed, on how many threads, in one process."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace

from benchmarking.rounds import DEFAULTS, Settings
from common.errors import RequestError
from engine.device.processes import several_processes


def add_timing_arguments(parser: ArgumentParser) -> None:
    for name, unit in (("steps", "a round"), ("rounds", "a measurement"), ("warmup", "steps thrown away")):
        by_device = ", ".join(f"{getattr(settings, name)} on {device}" for device, settings in DEFAULTS.items())
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{unit} (default: {by_device})")
    parser.add_argument("--threads", type=int, metavar="N", help="of torch on the CPU (default: torch's)")


def check_timing(arguments: Namespace) -> None:
    """Raises RequestError for counts that make no sense, and for more processes than one."""
    if several_processes():
        raise RequestError("this measures one process, and torchrun started several; start it with python alone")
    for name in ("steps", "rounds", "warmup", "threads"):
        check_count(name, getattr(arguments, name), least=1)


def check_count(name: str, given: int | None, least: int) -> None:
    if given is not None and given < least:
        raise RequestError(f"--{name} is {given}; it must be {least} or more")


def resolve_settings(arguments: Namespace, device: str) -> Settings:
    """The counts that were given, else those of the device ("cpu" or "cuda")."""
    given = {name: getattr(arguments, name) for name in ("steps", "rounds", "warmup")}
    return replace(DEFAULTS[device], **{name: value for name, value in given.items() if value is not None})
