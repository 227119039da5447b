#!/usr/bin/env python3
"""Write a trained network as one file that runs without this repository, and measure that file."""

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

import argparse
from pathlib import Path
from typing import get_args

from common.command import DONE, guard, make_parser, say
from common.errors import RequestError
from common.output_places import check_output_file
from common.user_paths import reachable_folder
from engine.checkpoints.exports.names import FORMATS, Pixels

NOT_CALIBRATED = "--int8 is calibrated on training images; name them with --dataset and --data_folder"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--path", type=Path, required=True, metavar="RUN_OR_FILE", help="a run's folder or its weights")
    formats = "; ".join(f"{name}: {form.summary}" for name, form in FORMATS.items())
    parser.add_argument("--format", choices=FORMATS, default="onnx", help=f"{formats} (default onnx)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: beside the weights, with the format's suffix"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.add_argument(
        "--input",
        choices=get_args(Pixels),
        default="uint8",
        help="pixels of B×3×H×W images: uint8 in 0..255, or float in 0..1 (default uint8); normalisation is inside",
    )
    parser.add_argument("--int8", action="store_true", help="also write FILE's eight-bit form, NAME_int8.onnx")
    parser.add_argument("--card", action="store_true", help="also write a model card, NAME.md")
    parser.add_argument("--model", metavar="NAME", help="name of the network, if the file does not have it")
    parser.add_argument("--dataset", metavar="NAME", help="where the images lie, for measuring (default: as trained)")
    parser.add_argument(
        "--data_folder", type=reachable_folder, default=Path("data"), metavar="DIR", help="default: data"
    )
    return parser.parse_args(argv)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    # These take seconds to import: the command line is checked first.
    from dataset import DATASETS
    from engine.checkpoints.exports.formats import write_export
    from engine.checkpoints.exports.measurement import describe_input, explain, images_of, measure
    from engine.checkpoints.exports.model_card import write_card
    from engine.checkpoints.exports.quantisation import quantise
    from engine.checkpoints.exports.source import load_deployed
    from engine.checkpoints.run_weights import weights_file

    weights = weights_file(arguments.path, "--path")
    if weights.is_dir():
        raise RequestError(f"--path {weights} is a folder without weights; name a run's folder or a weights file")
    out = arguments.out or weights.with_suffix(FORMATS[arguments.format].suffix)
    int8, card = out.with_name(f"{out.stem}_int8.onnx"), out.with_suffix(".md")
    if arguments.int8 and arguments.format != "onnx":
        raise RequestError(f"--int8 is an ONNX file, and --format is {arguments.format}; choose --format onnx")
    for path in (out, *[int8] * arguments.int8, *[card] * arguments.card):
        check_output_file("--out", path, arguments.overwrite)
    entry = DATASETS.find(arguments.dataset, arguments.data_folder) if arguments.dataset else None
    network, description = load_deployed(weights, arguments.input, entry, arguments.model)
    images = images_of(description, entry, arguments.data_folder)
    if arguments.int8 and images is None:
        raise RequestError(NOT_CALIBRATED)
    write_export(arguments.format, out, network, description)
    say(f"{out}: {out.stat().st_size:,} bytes, {describe_input(description)}")
    figures = measure(out, network, images)
    explain(figures["difference"], network, images)
    if arguments.int8 and images is not None:
        quantise(out, int8, images[1], description)
        share = int8.stat().st_size / out.stat().st_size
        say(f"{int8}: {int8.stat().st_size:,} bytes, {100 * share:.0f} % of {out.name}")
        figures |= {f"{name}, eight bits": value for name, value in measure(int8, network, images).items()}
    if arguments.card:
        write_card(card, out, description, figures)
        say(f"{card}")
    return DONE


if __name__ == "__main__":
    script.run(main, __file__)
