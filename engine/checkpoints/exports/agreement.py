"""How an exported network compares with the one it was made from: differences of logits, and accuracy."""

from collections.abc import Iterable
from copy import deepcopy
from itertools import islice

import torch

from dataset import Arrays, DatasetEntry, pixel_batches
from engine.checkpoints.exports.deployed import DeployedNetwork
from engine.checkpoints.exports.predictor import Predictor, as_input

CPU = torch.device("cpu")
BATCH_SIZE = 100


def largest_difference(network: DeployedNetwork, predictor: Predictor, batches: Iterable[torch.Tensor]) -> float:
    """The largest absolute difference of two networks' logits.

    Args:
        batches: uint8 B×H×W×3.
    """
    worst = 0.0
    for pixels in batches:
        with torch.inference_mode():
            expected = network(as_input(pixels, network.pixels))
        worst = max(worst, float((predictor(pixels) - expected).abs().max()))
    return worst


def largest_rounding(network: DeployedNetwork, batches: Iterable[torch.Tensor]) -> float:
    """The largest absolute difference of a network's logits in float32 and in float64: what rounding does to them.

    Args:
        batches: uint8 B×H×W×3.
    """
    exact, worst = deepcopy(network).double(), 0.0
    for pixels in batches:
        images = as_input(pixels, network.pixels)
        with torch.inference_mode():
            worst = max(worst, float((network(images) - exact(images)).abs().max()))
    return worst


def real_images(data: Arrays, most: int) -> Iterable[torch.Tensor]:
    """The first test images in batches of 1, 2, 7 and then BATCH_SIZE: uint8 B×H×W×3, `most` in all."""
    pixels = torch.cat(list(islice(pixel_batches(data.test_images, BATCH_SIZE, CPU), -(-most // BATCH_SIZE))))[:most]
    sizes, begin = [1, 2, 7], 0
    while begin < len(pixels):
        size = sizes.pop(0) if sizes else BATCH_SIZE
        yield pixels[begin : begin + size]
        begin += size


def accuracy(predictor: Predictor, data: Arrays, entry: DatasetEntry) -> float:
    """Top-1 accuracy in per cent on all test images."""
    correct, begin = 0, 0
    for pixels in pixel_batches(data.test_images, BATCH_SIZE, CPU):
        labels = torch.as_tensor(data.test_labels[begin : begin + len(pixels)])
        correct += int((predictor(pixels).argmax(dim=1) == labels).sum())
        begin += len(pixels)
    return 100 * correct / entry.test_size
