#!/usr/bin/env python3
"""Write a trained network as one file that runs without this repository, and measure that file."""

import argparse
from pathlib import Path
from typing import get_args

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

from common.command import DONE, guard, make_parser, say
from common.errors import RequestError
from dataset import DATASETS, Arrays, DatasetEntry, load_arrays
from engine.checkpoints.exports.agreement import accuracy, largest_difference, real_images
from engine.checkpoints.exports.deployed import DeployedNetwork
from engine.checkpoints.exports.description import Description, Pixels
from engine.checkpoints.exports.formats import FORMATS, write_export
from engine.checkpoints.exports.model_card import write_card
from engine.checkpoints.exports.predictor import open_predictor
from engine.checkpoints.exports.quantisation import quantise
from engine.checkpoints.exports.source import load_deployed
from engine.checkpoints.run_weights import weights_file

COMPARED = 500  # images
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
    parser.add_argument("--data_folder", type=Path, default=Path("data"), metavar="DIR", help="default: data")
    return parser.parse_args(argv)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    weights = weights_file(arguments.path, "--path")
    if weights.is_dir():
        raise RequestError(f"--path {weights} is a folder without weights; name a run's folder or a weights file")
    out = arguments.out or weights.with_suffix(FORMATS[arguments.format].suffix)
    int8, card = out.with_name(f"{out.stem}_int8.onnx"), out.with_suffix(".md")
    if arguments.int8 and arguments.format != "onnx":
        raise RequestError(f"--int8 is an ONNX file, and --format is {arguments.format}; choose --format onnx")
    for path in (out, *[int8] * arguments.int8, *[card] * arguments.card):
        if path.exists() and not arguments.overwrite:
            raise RequestError(f"{path} exists; choose another --out or add --overwrite")
    entry = DATASETS.find(arguments.dataset, arguments.data_folder) if arguments.dataset else None
    network, description = load_deployed(weights, arguments.input, entry, arguments.model)
    images = images_of(description, entry, arguments.data_folder)
    if arguments.int8 and images is None:
        raise RequestError(NOT_CALIBRATED)
    write_export(arguments.format, out, network, description)
    say(f"{out}: {out.stat().st_size:,} bytes, {describe_input(description)}")
    figures = report(out, network, images)
    if arguments.int8 and images is not None:
        quantise(out, int8, images[1], description)
        share = int8.stat().st_size / out.stat().st_size
        say(f"{int8}: {int8.stat().st_size:,} bytes, {100 * share:.0f} % of {out.name}")
        figures |= {f"{name}, eight bits": value for name, value in report(int8, network, images).items()}
    if arguments.card:
        write_card(card, out, description, figures)
        say(f"{card}")
    return DONE


def images_of(
    description: Description, entry: DatasetEntry | None, data_folder: Path
) -> tuple[DatasetEntry, Arrays] | None:
    """The data set to measure on; None where its images are not at hand and none was named."""
    if entry is None:
        try:
            entry = DATASETS.find(description.dataset, data_folder)
        except RequestError:
            return None
        if not entry.at_hand(data_folder):
            return None
    return entry, load_arrays(entry.name, data_folder)


def describe_input(description: Description) -> str:
    """The input and the output of an exported network, in a line."""
    size, kind = description.image_size, "0..255" if description.pixels == "uint8" else "0..1"
    return f"images B×3×{size}×{size} {description.pixels} {kind} to logits B×{description.num_classes}"


def report(path: Path, network: DeployedNetwork, images: tuple[DatasetEntry, Arrays] | None) -> dict[str, float]:
    """Compare a file with the network in PyTorch, print it, and return the figures by name."""
    predictor = open_predictor(path)
    if images is None:
        pixels = [network.example(count).mul(1 if network.pixels == "uint8" else 255).byte() for count in (1, 2, 7)]
        batches = [images.permute(0, 2, 3, 1) for images in pixels]
        difference = largest_difference(network, predictor, batches)
        say(f"largest difference to PyTorch {difference:.1e} on random images; test accuracy: no images at hand")
        return {"difference": difference}
    entry, data = images
    difference = largest_difference(network, predictor, real_images(data, COMPARED))
    top1 = accuracy(predictor, data, entry)
    compared = f"largest difference to PyTorch {difference:.1e} on {min(COMPARED, entry.test_size)} test images"
    say(f"{compared}; Acc@1 {top1:.2f} ({entry.test_size} images)")
    return {"difference": difference, "top1": top1}


if __name__ == "__main__":
    script.run(main, __file__)
