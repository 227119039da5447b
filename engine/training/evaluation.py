"""Accuracy and loss of a network on a data set."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dataset import Arrays, DatasetEntry, evaluation_batches
from engine.device.compute import Compute

# Batches hold so many images, and of large images as many pixels as this many of 96×96 have.
BATCH_SIZE, FULL_SIZE = 500, 96


def batch_size_for(image_size: int) -> int:
    """How many images of H = W = `image_size` are tested at a time: 500 up to 96 px, 91 at 224 px."""
    return max(1, int(BATCH_SIZE * min(1.0, (FULL_SIZE / image_size) ** 2)))


def evaluate(forward: Callable[[Tensor], Tensor], data: Arrays, entry: DatasetEntry, compute: Compute) -> dict:
    """Test a network that is in evaluation mode. Processes that train together take every W-th batch each.

    Args:
        forward: normalised B×3×H×W images to B×K logits.

    Returns:
        `top1` and `top5` in per cent, `loss` (mean cross-entropy) and `images` (how many there were).
    """
    return evaluate_by_head(lambda images: {"": forward(images)}, data, entry, compute)[""]


@torch.no_grad()
def evaluate_by_head(
    forward: Callable[[Tensor], Mapping[str, Tensor]], data: Arrays, entry: DatasetEntry, compute: Compute
) -> dict[str, dict]:
    """The same for each of several B×K logits that one pass gives by name."""
    totals: dict[str, Tensor] = {}
    world, images = compute.world, len(data.test_labels)
    size = batch_size_for(entry.image_size)
    batches = evaluation_batches(data.test_images, data.test_labels, entry, size, compute.device)
    for number, (batch, labels) in enumerate(batches):
        own = number % world.size == world.rank
        if not own and number:  # of the first all learn the names, for some may have no batch of their own
            continue
        with compute.autocast():
            answers = forward(batch.contiguous(memory_format=torch.channels_last))
        for name, logits in answers.items():
            totals[name] = totals.get(name, 0) + own * _totals(logits.float(), labels)
    return {name: _means(world.sum(total), images) for name, total in totals.items()}


def _totals(logits: Tensor, labels: Tensor) -> Tensor:
    """How many are right, how many are among the first five, and the sum of the losses; float64."""
    top = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="sum")
    return torch.stack([top[:, 0].sum().double(), top.sum().double(), loss.double()])


def _means(totals: Tensor, images: int) -> dict:
    top1, top5, loss = (totals / images).tolist()
    return {"top1": 100 * top1, "top5": 100 * top5, "loss": loss, "images": images}
