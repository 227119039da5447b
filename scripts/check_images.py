#!/usr/bin/env python3
"""Decode all photographs of a data set in folders, and list those that fail: a line each, file and reason."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

from common.command import DONE, FAILED, guard, make_parser, say, show
from common.errors import RequestError
from common.user_paths import reachable_folder
from dataset import DATASETS
from dataset.image_check import decode_all
from dataset.image_files import ImageFiles


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--dataset", required=True, metavar="NAME", help="folder:NAME")
    parser.add_argument(
        "--data_folder",
        type=reachable_folder,
        default=Path("data"),
        metavar="FOLDER",
        help="where data sets are (default data)",
    )
    return parser.parse_args(argv)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    if ":" not in arguments.dataset:
        raise RequestError(f"--dataset {arguments.dataset} is no folder of photographs; give folder:NAME")
    entry = DATASETS.find(arguments.dataset, arguments.data_folder)
    arrays, damaged = entry.load(arguments.data_folder), {}
    for files in (arrays.train_images, arrays.test_images):
        if isinstance(files, ImageFiles):
            damaged |= {str(files.folder.parent / file): reason for file, reason in decode_all(files).items()}
    show("".join(f"{file}\t{reason}\n" for file, reason in damaged.items()))
    for note in entry.notes:
        print(note, file=sys.stderr)
    say(f"{len(damaged)} of {entry.train_size + entry.test_size} images cannot be decoded")
    return FAILED if damaged else DONE


if __name__ == "__main__":
    script.run(main, __file__)
