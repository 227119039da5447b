#!/usr/bin/env python3
"""How long a training step takes: the suite's against that of a plain loop, measured in one process, in turns."""

import json
import os
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarking.bench import Bench
from benchmarking.candidates import Candidates, make_candidates, make_data, resolve_methods
from benchmarking.flags import add_timing_arguments, check_count, check_timing, resolve_settings
from benchmarking.plain_loop import TRADITIONAL_WORKERS
from benchmarking.tables import heading, legend, tables
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
        "--pairs", nargs="+", default=["resnet32x4:resnet8x4"], metavar="TEACHER:STUDENT", help="networks"
    )
    parser.add_argument("--path_t", type=Path, nargs="+", metavar="PATH", help="teachers' checkpoints, one a pair; "
                        "by default random weights: no time depends on them")  # fmt: skip
    parser.add_argument("--distill", nargs="+", default=list(DEFAULT_METHODS), metavar="NAME", help="method(s); all")
    cli.add_data_arguments(parser)
    parser.add_argument("--synthetic", action="store_true", help="random pixels of the data set's shape and size")
    parser.add_argument("--recipe", default="repdistiller", metavar="NAME", help="one that crops and flips only")
    parser.add_argument("--batch_size", type=int, metavar="N", help="default: the recipe's")
    cli.add_compute_arguments(parser)
    cli.add_compilation_arguments(parser)
    add_timing_arguments(parser)
    parser.add_argument("--workers", type=int, metavar="N", help="of the plain loop's DataLoader (default: "
                        f"{TRADITIONAL_WORKERS}, at most one a core)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, after every pair")
    return parser.parse_args(argv)


def check(arguments: Namespace) -> None:
    """Raises RequestError for what can be seen to be wrong at once, before hours are spent."""
    check_timing(arguments)
    check_count("workers", arguments.workers, least=0)
    pairs, paths, file = arguments.pairs, arguments.path_t, arguments.json
    if paths is not None and len(paths) != len(pairs):
        raise RequestError(f"{len(paths)} files in --path_t for {len(pairs)} --pairs; give one for each")
    if file is not None and file.is_dir():
        raise RequestError(f"--json {file} is a folder; name a file in it")
    if file is not None and not file.absolute().parent.is_dir():
        raise RequestError(f"--json {file}: there is no folder {file.parent}; make it or name another")


def build(arguments: Namespace, entry: DatasetEntry, precision: str) -> list[Candidates]:
    """All pairs, before the first is measured: what else is wrong with the request is found here."""
    methods = resolve_methods(arguments.distill)
    paths = arguments.path_t or [None] * len(arguments.pairs)
    return [
        make_candidates(pair, path, methods, entry, arguments.recipe, arguments.batch_size, precision)
        for pair, path in zip(arguments.pairs, paths, strict=True)
    ]


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    check(arguments)
    entry, compute = DATASETS[arguments.dataset], cli.compute_of(arguments)
    settings = resolve_settings(arguments, compute.device.type)
    workers = min(TRADITIONAL_WORKERS, os.cpu_count() or 1) if arguments.workers is None else arguments.workers
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
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
        print(f"\nImages: random pixels of the shape and number of {entry.name}; no time depends on them.")
    described = f"suite in {compute.precision}, compilation {compute.compilation}"
    while pairs:
        pair = pairs.pop(0)  # nothing keeps it after its turn, so that the next one finds its memory free
        content["pairs"].append(bench.measure(pair))
        print(f"\n## {pair.title}: {entry.name}, batch {pair.recipe.batch_size}, {described}\n")
        print(tables(content["pairs"][-1]), flush=True)
        if arguments.json is not None:
            write_json(arguments.json, content)
    print(legend(settings, workers, compute.device.type), end="")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
