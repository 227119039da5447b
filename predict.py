#!/usr/bin/env python3
"""Name the classes of images, by a trained network or an exported file."""

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.command import DONE, at_least, guard, make_parser, show
from common.errors import RequestError
from common.user_paths import reachable_folder

if TYPE_CHECKING:
    from engine.checkpoints.exports.prediction import Prediction


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--path",
        type=Path,
        required=True,
        metavar="FILE",
        help="an exported file (.onnx, .pt2), weights, or a run's folder",
    )
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE_OR_FOLDER", help="images; folders are searched")
    parser.add_argument("--top", type=at_least(1), default=1, metavar="K", help="classes an image (default 1)")
    parser.add_argument("--format", choices=["table", "csv", "json"], default="table", help="default table")
    parser.add_argument("--model", metavar="NAME", help="name of the network, if the file does not have it")
    parser.add_argument(
        "--dataset", metavar="NAME", help="data set of a file from elsewhere: classes and normalisation"
    )
    parser.add_argument(
        "--data_folder", type=reachable_folder, default=Path("data"), metavar="DIR", help="default: data"
    )
    return parser.parse_intermixed_args(argv)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    # These take seconds to import: the command line is checked first.
    from dataset import DATASETS
    from engine.checkpoints.exports.prediction import images_below, predict
    from engine.checkpoints.exports.predictor import open_predictor

    entry = DATASETS.find(arguments.dataset, arguments.data_folder) if arguments.dataset else None
    paths = list(images_below(arguments.images))
    predictor = open_predictor(arguments.path, entry, arguments.model)
    predictions, unreadable = predict(predictor, paths, arguments.top)
    for reason in unreadable:
        print(f"warning: {reason}", file=sys.stderr)
    if not predictions:
        raise RequestError(f"none of {len(paths)} images can be read")
    show(PRINTERS[arguments.format](predictions))
    return DONE


def as_table(predictions: Sequence["Prediction"]) -> str:
    """A line an image: its path, then each class with its probability in per cent."""
    width = max(len(str(prediction.path)) for prediction in predictions)
    lines = []
    for prediction in predictions:
        classes = "  ".join(f"{name} {100 * p:.1f} %" for name, p in prediction.classes)
        lines.append(f"{prediction.path!s:{width}}  {classes}")
    return "\n".join(lines) + "\n"


def as_csv(predictions: Sequence["Prediction"]) -> str:
    """A row for each image and class: path, rank from 1, class, probability."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", "rank", "class", "probability"])
    for prediction in predictions:
        for rank, (name, p) in enumerate(prediction.classes, 1):
            writer.writerow([prediction.path, rank, name, f"{p:.6f}"])
    return out.getvalue()


def as_json(predictions: Sequence["Prediction"]) -> str:
    """A list of objects: `image`, and `classes` with `name` and `probability`."""
    objects = [
        {"image": str(one.path), "classes": [{"name": name, "probability": p} for name, p in one.classes]}
        for one in predictions
    ]
    return json.dumps(objects, indent=2, ensure_ascii=False) + "\n"


PRINTERS = {"table": as_table, "csv": as_csv, "json": as_json}

if __name__ == "__main__":
    script.run(main, __file__)
