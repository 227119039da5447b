"""Accuracy and loss of a network on a data set."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import RequestError
from dataset import Arrays, DatasetEntry, evaluation_batches
from dataset.to_device import DeviceArrays
from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.compute import Compute
from engine.device.world import World
from models import Network

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
        `top1` and `top5` in per cent, `loss` (mean cross-entropy), `images` (their number), and `balanced`: the mean
        over the classes of their top-1 accuracy (recall) in per cent. Classes without test images are not counted.
    """
    return evaluate_by_head(lambda images: {"": forward(images)}, data, entry, compute, watch)[""]


def check_finite_loss(
    result: Mapping[str, float], path: Path, entry: DatasetEntry, compute: Compute, again: Callable[[Compute], dict]
) -> None:
    """Check what `evaluate` gave for a network that was read from a file.

    Args:
        again: tests it once more on another `Compute`.

    Raises:
        RequestError: the loss, and so a prediction, is not finite; the message says whether it is in fp32.
    """
    if math.isfinite(result["loss"]):
        return
    advice = "take another checkpoint"
    if compute.precision != "fp32" and math.isfinite(again(replace(compute, precision="fp32"))["loss"]):
        advice = "in fp32 they are: give --precision fp32"
    raise RequestError(
        f"{path}: the network's predictions on {entry.name} are not finite in {compute.precision}; {advice}"
    )


@torch.no_grad()
def check_backbone(
    network: Network | InferenceNetwork, path: Path, data: Data, entry: DatasetEntry, compute: Compute
) -> None:
    """Pass some test images through a network that was read from a file and whose logits are not used.

    Raises:
        RequestError: its embedding is not finite.
    """
    size = batch_size_for(entry.image_size)
    batches = evaluation_batches(data.test_images, data.test_labels, entry, size, compute.device)
    was_training = network.training
    compute.place(network).eval()
    images, _ = next(iter(batches))
    with compute.autocast():
        embedding = network.features(images.contiguous(memory_format=torch.channels_last)).embedding
    network.train(was_training)
    if not embedding.isfinite().all():
        raise RequestError(
            f"{path}: the network's features on {entry.name} are not finite in {compute.precision}; "
            f"take another checkpoint"
        )


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
    totals: dict[str, _Totals] = {}
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
            counted = _Totals.of(logits.float(), labels, entry.num_classes).times(own)
            totals[name] = totals[name].plus(counted) if name in totals else counted
    return {name: total.over_processes(world).means(images) for name, total in totals.items()}


def top_classes(logits: Tensor) -> Tensor:
    """The five classes of the largest of B×K logits, the largest first; fewer where K is less than 5."""
    return logits.topk(min(5, logits.shape[1]), dim=1).indices


class _Totals(NamedTuple):
    """Sums over images, float64.

    Attributes:
        whole: correct predictions, labels among the first five, and losses; 3.
        by_class: correct predictions of each of K classes, then the images of each; 2K.
    """

    whole: Tensor
    by_class: Tensor

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor, classes: int) -> "_Totals":
        """Sums over a batch, from B×K logits and B labels."""
        top = top_classes(logits) == labels[:, None]
        loss = F.cross_entropy(logits, labels, reduction="sum")
        whole = torch.stack([top[:, 0].sum().double(), top.sum().double(), loss.double()])
        # One dimension, in which scatter_add is deterministic on a GPU too.
        places, values = torch.cat([labels, labels + classes]), torch.cat([top[:, 0], torch.ones_like(top[:, 0])])
        return cls(whole, whole.new_zeros(2 * classes).scatter_add_(0, places, values.double()))

    def times(self, factor: int) -> "_Totals":
        return _Totals(factor * self.whole, factor * self.by_class)

    def plus(self, other: "_Totals") -> "_Totals":
        return _Totals(self.whole + other.whole, self.by_class + other.by_class)

    def over_processes(self, world: World) -> "_Totals":
        # Two messages: the length of one may change the order in which the losses are added.
        return _Totals(world.sum(self.whole), world.sum(self.by_class))

    def means(self, images: int) -> dict:
        correct, of_class = self.by_class.chunk(2)
        recalls = correct[of_class > 0] / of_class[of_class > 0]
        top1, top5, loss, balanced = [*(self.whole / images).tolist(), recalls.mean().item()]
        return {"top1": 100 * top1, "top5": 100 * top5, "loss": loss, "images": images, "balanced": 100 * balanced}
