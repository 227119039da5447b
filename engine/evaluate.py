"""Accuracy and loss of a network on a data set."""

from collections.abc import Callable
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from dataset import Arrays, DatasetEntry, evaluation_batches
from engine.compute import Compute

BATCH_SIZE = 500


@torch.no_grad()
def evaluate(forward: Callable[[Tensor], Tensor], data: Arrays, entry: DatasetEntry, compute: Compute) -> dict:
    """Test a network that is in evaluation mode. Processes that train together take every W-th batch each.

    Args:
        forward: normalised B×3×H×W images to B×K logits.

    Returns:
        `top1` and `top5` in per cent, `loss` (mean cross-entropy) and `images` (how many there were).
    """
    totals = torch.zeros(3, dtype=torch.float64, device=compute.device)
    world, images = compute.world, len(data.test_labels)
    batches = evaluation_batches(data.test_images, data.test_labels, entry, BATCH_SIZE, compute.device)
    for batch, labels in islice(batches, world.rank, None, world.size):
        with compute.autocast():
            logits = forward(batch.contiguous(memory_format=torch.channels_last))
        logits = logits.float()
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        loss = F.cross_entropy(logits, labels, reduction="sum")
        totals += torch.stack([top[:, 0].sum().double(), top.sum().double(), loss.double()])
    top1, top5, loss = (world.sum(totals) / images).tolist()
    return {"top1": 100 * top1, "top5": 100 * top5, "loss": loss, "images": images}
