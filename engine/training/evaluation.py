"""Accuracy and loss of a network on a data set."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dataset import Arrays, DatasetEntry, evaluation_batches
from dataset.to_device import DeviceArrays
from engine.device.compute import Compute

Data = Arrays | DeviceArrays  # only the test set is read; from the host it is copied once per test

Watch = Callable[[Iterable[Any]], Iterable[Any]]
# Batches hold so many images, and of large images as many pixels as this many of 96×96 have.
BATCH_SIZE, FULL_SIZE = 500, 96


def batch_size_for(image_size: int) -> int:
    """The number of images of `image_size` × `image_size` pixels tested at a time: 500 up to 96 px, 91 at 224 px."""
    return max(1, int(BATCH_SIZE * min(1.0, (FULL_SIZE / image_size) ** 2)))


def batches_of_test(data: Data, entry: DatasetEntry) -> int:
    """The number of batches that a test takes."""
    return math.ceil(len(data.test_labels) / batch_size_for(entry.image_size))


def evaluate(
    forward: Callable[[Tensor], Tensor], data: Data, entry: DatasetEntry, compute: Compute, watch: Watch = iter
) -> dict:
    """Test a network that is in evaluation mode. Of W processes each takes every W-th batch.

    Args:
        forward: normalised B×3×H×W images to B×K logits.
        watch: passes the batches on, and may show how far the test is.

    Returns:
        `top1` and `top5` in per cent, `loss` (mean cross-entropy) and `images` (their number).
    """
    return evaluate_by_head(lambda images: {"": forward(images)}, data, entry, compute, watch)[""]


@torch.no_grad()
def evaluate_by_head(
    forward: Callable[[Tensor], Mapping[str, Tensor]],
    data: Data,
    entry: DatasetEntry,
    compute: Compute,
    watch: Watch = iter,
) -> dict[str, dict]:
    """Test each of several heads that one forward pass gives: B×K logits by name.

    Returns:
        For each name what `evaluate` returns; nothing for a network that has no such heads.
    """
    totals: dict[str, Tensor] = {}
    world, images = compute.world, len(data.test_labels)
    size = batch_size_for(entry.image_size)
    batches = evaluation_batches(data.test_images, data.test_labels, entry, size, compute.device)
    for number, (batch, labels) in enumerate(watch(batches)):
        own = number % world.size == world.rank
        if not own and number:  # the first tells all processes the names, even those without a batch
            continue
        with compute.autocast():
            predictions = forward(batch.contiguous(memory_format=torch.channels_last))
        if not predictions:  # of a network with one way to predict; the first batch tells
            break
        for name, logits in predictions.items():
            counted = own * _totals(logits.float(), labels)
            totals[name] = totals[name] + counted if name in totals else counted
    return {name: _means(world.sum(total), images) for name, total in totals.items()}


def _totals(logits: Tensor, labels: Tensor) -> Tensor:
    """Count correct predictions and labels among the first five, and sum the losses; three float64 values."""
    top = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="sum")
    return torch.stack([top[:, 0].sum().double(), top.sum().double(), loss.double()])


def _means(totals: Tensor, images: int) -> dict:
    top1, top5, loss = (totals / images).tolist()
    return {"top1": 100 * top1, "top5": 100 * top5, "loss": loss, "images": images}
