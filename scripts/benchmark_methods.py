#!/usr/bin/env python3
"""Measure each method without the networks: ms per step, peak memory, parameters and state, at CIFAR-100's sizes."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

from benchmarking.method_cost import MethodCost, PreparedPair
from benchmarking.rounds import TimedStep, Timer
from benchmarking.tables import heading, table
from benchmarking.timing_flags import (
    add_timing_arguments,
    check_timing,
    resolve_methods,
    resolve_pair,
    resolve_settings,
)
from common.command import DONE, guard, make_parser
from common.errors import RequestError
from common.files import write_json
from engine import cli
from engine.device.compute import resolve_compute
from engine.records.environment import describe_environment

LEGEND = """
**ms**: a step of the method's own heads and losses with their gradients, on precomputed features; the best round.
**peak MiB**: peak memory of the tensors that such a step creates. **state MiB**: memories and queues. **parameters**:
the method's own, trained with the student's. `(initial)`: a method's stage before the main one.
"""


def parse(argv: list[str] | None) -> Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--pair", default="resnet32x4:resnet8x4", metavar="TEACHER:STUDENT", help="pair of networks")
    parser.add_argument("--distill", nargs="+", default=["all"], metavar="NAME", help="methods (default: all)")
    parser.add_argument("--batch_size", type=int, default=64, metavar="N", help="images per step (default: 64)")
    cli.add_compute_arguments(parser, precision="fp32")
    add_timing_arguments(parser)
    return parser.parse_args(argv)


def measure(name: str, pair: PreparedPair, timer: Timer, steps: int) -> list[dict[str, Any]]:
    """Records of a method, one for each of its stages. Raises RequestError if it refuses the pair."""
    cost = MethodCost(name, pair)
    records = []
    for stage, step in cost.steps().items():
        step()  # a method may compute and cache sizes in its first step
        peak = cost.peak_mib(step)
        timed = TimedStep(name, step, steps)
        timer.time([timed], name)
        records.append(
            {
                "method": name if stage == "main" else f"{name} ({stage})",
                "ms": timed.ms,
                "peak_mib": peak,
                "state_mib": cost.state_mib,
                "parameters": cost.parameters,
            }
        )
    return records


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    check_timing(arguments)
    if arguments.batch_size < 2:
        raise RequestError(f"--batch_size is {arguments.batch_size}; it must be 2 or more")
    teacher, student = resolve_pair("--pair", arguments.pair)
    names = sorted(resolve_methods(arguments.distill))
    compute = resolve_compute(arguments.device, arguments.precision, compilation="off")
    settings = resolve_settings(arguments, compute.device.type)
    timer = Timer(compute.device, settings)
    prepared = PreparedPair(teacher, student, arguments.batch_size, compute.device)
    records, refused = [], {}
    for name in names:
        try:
            records += measure(name, prepared, timer, settings.steps)
        except RequestError as refusal:
            refused[name] = str(refusal)
    environment = describe_environment(compute.device)
    print(f"# Methods on {teacher} → {student}, CIFAR-100, batch {arguments.batch_size}\n\n{heading(environment)}\n")
    rows = [[r["method"], r["ms"], r["peak_mib"], r["state_mib"], f"{r['parameters']:,}"] for r in records]
    print(table(["method", "ms", "peak MiB", "state MiB", "parameters"], rows))
    for name, reason in refused.items():
        print(f"\nleft out: {name}: {reason}")
    print(LEGEND, end="")
    if arguments.json is not None:
        pair = {"teacher": teacher, "student": student, "batch_size": arguments.batch_size}
        content = {"format": 1, "environment": environment, **pair, "methods": records, "left_out": refused}
        write_json(arguments.json, content)
    return DONE


if __name__ == "__main__":
    script.run(main, __file__)
