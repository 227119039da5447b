#!/usr/bin/env python3
"""Measure training steps of the suite against those of a plain loop, in one process and in turns."""

import json
import os
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

from benchmarking.bench import Bench
from benchmarking.candidates import Candidates, Conditions, make_candidates, make_data
from benchmarking.plain_loop import TRADITIONAL_WORKERS
from benchmarking.tables import heading, legend, tables
from benchmarking.timing_flags import add_timing_arguments, check_count, check_timing, resolve_methods, resolve_settings
from common.command import DONE, guard, make_parser
from common.errors import RequestError
from common.files import write_json
from dataset import DATASETS, DatasetEntry
from engine import cli
from engine.records.environment import describe_environment

DEFAULT_METHODS = ("none", "kd", "hint", "attention", "similarity", "vid", "pkt", "crd")


def parse(argv: list[str] | None) -> Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--pairs", nargs="+", default=["resnet32x4:resnet8x4"], metavar="TEACHER:STUDENT", help="pairs of networks"
    )
    parser.add_argument("--path_t", type=Path, nargs="+", metavar="PATH", help="teachers' checkpoints, one for "
                        "each pair (default: random weights, on which no time depends)")  # fmt: skip
    parser.add_argument("--distill", nargs="+", default=list(DEFAULT_METHODS), metavar="NAME", help="methods, or all")
    cli.add_data_arguments(parser)
    parser.add_argument("--synthetic", action="store_true", help="take random pixels of the data set's shape and size")
    parser.add_argument("--recipe", default="repdistiller", metavar="NAME", help="default: repdistiller; or light")
    parser.add_argument("--batch_size", type=int, metavar="N", help="default: that of the recipe")
    cli.add_compute_arguments(parser)
    cli.add_compilation_arguments(parser)
    add_timing_arguments(parser)
    parser.add_argument("--workers", type=int, metavar="N", help="workers of the plain loop's DataLoader "
                        f"(default: {TRADITIONAL_WORKERS}, at most one per core)")  # fmt: skip
    return parser.parse_args(argv)


def check(arguments: Namespace) -> None:
    """Check the command line before anything is measured. Raises RequestError."""
    check_timing(arguments)
    check_count("workers", arguments.workers, least=0)
    pairs, paths = arguments.pairs, arguments.path_t
    if paths is not None and len(paths) != len(pairs):
        raise RequestError(f"--path_t names {len(paths)} files for {len(pairs)} --pairs; give one for each")


def build(arguments: Namespace, entry: DatasetEntry, precision: str) -> list[Candidates]:
    """Build all pairs before the first is measured. Raises RequestError."""
    methods = resolve_methods(arguments.distill)
    paths = arguments.path_t or [None] * len(arguments.pairs)
    conditions = Conditions(entry, arguments.recipe, arguments.batch_size, precision)
    return [make_candidates(pair, path, methods, conditions) for pair, path in zip(arguments.pairs, paths, strict=True)]


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    check(arguments)
    entry, compute = DATASETS[arguments.dataset], cli.compute_of(arguments)
    settings = resolve_settings(arguments, compute.device.type)
    workers = min(TRADITIONAL_WORKERS, os.cpu_count() or 1) if arguments.workers is None else arguments.workers
    pairs = build(arguments, entry, compute.precision)
    images, labels, source = make_data(entry, arguments.data_folder, arguments.synthetic)
    bench = Bench(entry, images, labels, compute, settings, workers)
    content = {
        "format": 1,
        "environment": describe_environment(compute.device),
        "arguments": json.loads(json.dumps(vars(arguments), default=str)),
        "settings": asdict(settings)
        | {"workers": workers, "precision": compute.precision}
        | {"compile": compute.compilation, "deterministic": compute.deterministic},
        "images": source,
        "pairs": [],
    }
    print(f"# Training step\n\n{heading(content['environment'])}", flush=True)
    if source != entry.name:
        print(f"\nImages: random pixels of the shape and number of {entry.name}; times do not depend on them.")
    described = f"suite in {compute.precision}, compilation {compute.compilation}"
    while pairs:
        pair = pairs.pop(0)  # so that its memory is freed before the next one
        content["pairs"].append(bench.measure(pair))
        print(f"\n## {pair.title}: {entry.name}, batch {pair.recipe.batch_size}, {described}\n")
        print(tables(content["pairs"][-1]), flush=True)
        if arguments.json is not None:
            write_json(arguments.json, content)
    print(legend(settings, workers, compute.device.type), end="")
    return DONE


if __name__ == "__main__":
    script.run(main, __file__)
