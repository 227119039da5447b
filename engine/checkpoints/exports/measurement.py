"""An exported file, measured: how far its logits are from PyTorch's, and its accuracy."""

from collections.abc import Iterable
from pathlib import Path

import torch

from common.command import say
from common.errors import RequestError
from dataset import DATASETS, Arrays, DatasetEntry, load_arrays
from engine.checkpoints.exports.agreement import accuracy, largest_difference, largest_rounding, real_images
from engine.checkpoints.exports.deployed import DeployedNetwork
from engine.checkpoints.exports.description import Description
from engine.checkpoints.exports.predictor import open_predictor

COMPARED = 500  # images
NOTICEABLE = 1e-5  # of logits


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


def measure(path: Path, network: DeployedNetwork, images: tuple[DatasetEntry, Arrays] | None) -> dict[str, float]:
    """Compare a file with the network in PyTorch, print it, and return the figures by name."""
    predictor = open_predictor(path)
    difference = largest_difference(network, predictor, compared(network, images))
    if images is None:
        say(f"largest difference to PyTorch {difference:.1e} on random images; test accuracy: no images at hand")
        return {"difference": difference}
    entry, data = images
    top1 = accuracy(predictor, data, entry)
    on_images = f"on {min(COMPARED, entry.test_size)} test images"
    say(f"largest difference to PyTorch {difference:.1e} {on_images}; Acc@1 {top1:.2f} ({entry.test_size} images)")
    return {"difference": difference, "top1": top1}


def explain(difference: float, network: DeployedNetwork, images: tuple[DatasetEntry, Arrays] | None) -> None:
    """Print, of a difference that is noticeable, how far rounding alone moves the logits in PyTorch."""
    if difference > NOTICEABLE:
        rounding = largest_rounding(network, compared(network, images))
        say(f"of this network's logits float32 and float64 differ by {rounding:.1e} in PyTorch itself")


def compared(network: DeployedNetwork, images: tuple[DatasetEntry, Arrays] | None) -> Iterable[torch.Tensor]:
    """Batches to compare on, uint8 B×H×W×3: test images, or random ones."""
    if images is not None:
        return real_images(images[1], COMPARED)
    pixels = [network.example(count).mul(1 if network.pixels == "uint8" else 255).byte() for count in (1, 2, 7)]
    return [images.permute(0, 2, 3, 1) for images in pixels]
