#!/usr/bin/env python3
"""Measure a checkpoint on the test set of a data set, and with --per_class each of its classes."""

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from common.class_sizes import are_uneven
from common.command import DONE, guard, make_parser, show
from common.errors import RequestError
from common.files import to_json
from common.output_places import check_output_file, write_output
from engine.light_flags import add_checkpoint_arguments, add_compute_arguments, add_data_of_file_arguments


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--path", type=Path, required=True, metavar="CKPT", help="checkpoint, or the folder of a run")
    parser.add_argument("--model", metavar="NAME", help="the network (default: as the checkpoint has it)")
    parser.add_argument("--answers", action="store_true", help="measure each prediction head of the network too (std)")
    parser.add_argument("--per_class", action="store_true", help="add recall, precision and confusions of each class")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a line")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="with --per_class: a CSV row for each class (default: none)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    add_checkpoint_arguments(parser)
    add_data_of_file_arguments(parser)
    add_compute_arguments(parser, precision="fp32")
    return parser.parse_args(argv)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    check(arguments)
    # These take seconds to import: the command line is checked first.
    import numpy as np

    from dataset import DATASETS, LeftOut, load_arrays
    from dataset.image_workers import set_num_workers
    from engine import cli
    from engine.checkpoints.run_weights import weights_file
    from engine.checkpoints.weights import build_network, read_weights
    from engine.device.compute import Compute, resolve_compute
    from engine.records.progress import Progress
    from engine.training.evaluation import batches_of_test, check_finite_loss, evaluate, evaluate_by_head
    from engine.training.predicted_classes import PredictedClasses

    given = None if arguments.dataset is None else DATASETS.find(arguments.dataset, arguments.data_folder)
    compute = resolve_compute(arguments.device, arguments.precision, compilation="off")
    file = read_weights(weights_file(arguments.path, "--path"), arguments.allow_namespace)
    entry = given or DATASETS.find(file.dataset or cli.DEFAULT_DATASET, arguments.data_folder)
    (choice,) = cli.weights_choices(arguments, "--model")
    loaded = build_network(file, entry, arch=arguments.model, choice=choice)
    if loaded.note:
        print(loaded.note, file=sys.stderr if arguments.json else sys.stdout)
    compute.place(loaded.network)
    set_num_workers(arguments.num_workers)
    data = load_arrays(entry.name, arguments.data_folder, LeftOut(arguments.skip_bad_images))
    for note in entry.notes:
        print(note, file=sys.stderr)
    total = batches_of_test(data, entry)
    watch = partial(
        Progress().watched, what=f"{loaded.arch} on {len(data.test_labels)} test images", total=total, unit="batch"
    )

    predicted = PredictedClasses(loaded.network) if arguments.per_class else None

    def measured(compute: Compute) -> dict:
        return evaluate(predicted or loaded.network, data, entry, compute, watch)

    result = measured(compute)
    check_finite_loss(result, file.path, entry, compute, measured)
    by_head = {}
    if arguments.answers:
        by_head = evaluate_by_head(loaded.network.predictions_by_head, data, entry, compute, watch)
        if not by_head:
            print(f"--answers: {loaded.arch} has one prediction head", file=sys.stderr)
    labels = np.asarray(data.test_labels)
    by_class = None
    if predicted is not None:
        from analysis.class_table import ClassTable  # with pandas, whose import takes a while

        by_class = ClassTable.of(labels, predicted.labels(), entry.num_classes, entry.classes)
        if arguments.out is not None:
            write_output("--out", arguments.out, by_class.csv())
    if arguments.json:
        more = ({"answers": by_head} if arguments.answers else {}) | (by_class.record() if by_class else {})
        show(to_json(result | {"model": loaded.arch} | more) + "\n")
        return DONE
    uneven = are_uneven(np.bincount(labels).tolist())
    show(line(result, uneven) + "\n")
    for name, of_head in by_head.items():
        show(f"{name}: {line(of_head, uneven)}\n")
    if by_class is not None:
        show(f"\n{by_class.text()}")
    return DONE


def check(arguments: argparse.Namespace) -> None:
    """Check where the classes are to be written. Raises RequestError."""
    if arguments.out is None:
        return
    if not arguments.per_class:
        raise RequestError(f"--out {arguments.out} gets the figures of each class; add --per_class")
    check_output_file("--out", arguments.out, arguments.overwrite)


def line(result: Mapping[str, float], uneven: bool = False) -> str:
    """A result as `Acc@1 72.63 Acc@5 91.94 loss 1.234 (10000 images)`, with balanced accuracy for uneven classes."""
    top1, top5, loss, images = (result[key] for key in ("top1", "top5", "loss", "images"))
    balanced = f" balanced {result['balanced']:.2f}" if uneven else ""
    return f"Acc@1 {top1:.2f} Acc@5 {top5:.2f} loss {loss:.3f} ({images} images){balanced}"


if __name__ == "__main__":
    script.run(main, __file__)
