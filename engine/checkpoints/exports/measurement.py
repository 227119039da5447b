"""An exported file, measured: how far its logits are from PyTorch's, and its accuracy."""

from pathlib import Path

from common.command import say
from common.errors import RequestError
from dataset import DATASETS, Arrays, DatasetEntry, load_arrays
from engine.checkpoints.exports.agreement import accuracy, largest_difference, real_images
from engine.checkpoints.exports.deployed import DeployedNetwork
from engine.checkpoints.exports.description import Description
from engine.checkpoints.exports.predictor import open_predictor

COMPARED = 500  # images


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
