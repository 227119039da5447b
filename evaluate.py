#!/usr/bin/env python3
"""Measure a checkpoint on the test set of a data set."""

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

from common.command import DONE, guard, make_parser, show
from common.files import to_json
from engine.light_flags import add_checkpoint_arguments, add_compute_arguments, add_data_of_file_arguments


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--path", type=Path, required=True, metavar="CKPT", help="checkpoint, or the folder of a run")
    parser.add_argument("--model", metavar="NAME", help="the network (default: as the checkpoint has it)")
    parser.add_argument("--answers", action="store_true", help="measure each prediction head of the network too (std)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a line")
    add_checkpoint_arguments(parser)
    add_data_of_file_arguments(parser)
    add_compute_arguments(parser, precision="fp32")
    return parser.parse_args(argv)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    # These take seconds to import: the command line is checked first.
    from dataset import DATASETS, LeftOut, load_arrays
    from engine import cli
    from engine.checkpoints.run_weights import weights_file
    from engine.checkpoints.weights import build_network, read_weights
    from engine.device.compute import Compute, resolve_compute
    from engine.records.progress import Progress
    from engine.training.evaluation import batches_of_test, check_finite_loss, evaluate, evaluate_by_head

    given = None if arguments.dataset is None else DATASETS.find(arguments.dataset, arguments.data_folder)
    compute = resolve_compute(arguments.device, arguments.precision, compilation="off")
    file = read_weights(weights_file(arguments.path, "--path"), arguments.allow_namespace)
    entry = given or DATASETS.find(file.dataset or cli.DEFAULT_DATASET, arguments.data_folder)
    (choice,) = cli.weights_choices(arguments, "--model")
    loaded = build_network(file, entry, arch=arguments.model, choice=choice)
    if loaded.note:
        print(loaded.note, file=sys.stderr if arguments.json else sys.stdout)
    compute.place(loaded.network)
    data = load_arrays(entry.name, arguments.data_folder, LeftOut(arguments.skip_bad_images))
    for note in entry.notes:
        print(note, file=sys.stderr)
    total = batches_of_test(data, entry)
    watch = partial(
        Progress().watched, what=f"{loaded.arch} on {len(data.test_labels)} test images", total=total, unit="batch"
    )

    def measured(compute: Compute) -> dict:
        return evaluate(loaded.network, data, entry, compute, watch)

    result = measured(compute)
    check_finite_loss(result, file.path, entry, compute, measured)
    by_head = {}
    if arguments.answers:
        by_head = evaluate_by_head(loaded.network.predictions_by_head, data, entry, compute, watch)
    if arguments.json:
        show(to_json(result | {"model": loaded.arch} | ({"answers": by_head} if arguments.answers else {})) + "\n")
    else:
        show(line(result) + "\n")
        for name, of_head in by_head.items():
            show(f"{name}: {line(of_head)}\n")
    return DONE


def line(result: Mapping[str, float]) -> str:
    """A result as `Acc@1 72.63 Acc@5 91.94 loss 1.234 (10000 images)`."""
    top1, top5, loss, images = (result[key] for key in ("top1", "top5", "loss", "images"))
    return f"Acc@1 {top1:.2f} Acc@5 {top5:.2f} loss {loss:.3f} ({images} images)"


if __name__ == "__main__":
    script.run(main, __file__)
