"""One pass of all networks over the test images: logits, embeddings and CKA."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.cka import SMALLEST_BATCH, MeanCka, centred_gram
from analysis.named_networks import NamedNetwork
from common.errors import RunError
from dataset import Arrays, DatasetEntry, evaluation_batches
from engine.device.compute import Compute
from models import Features


@dataclass(frozen=True)
class Predictions:
    """Outputs of a network for the test images.

    Attributes:
        logits: float32 N×K, for all N images.
        embeddings: float32 M×D, for the M chosen images.
        cka: float64 T×S, linear CKA of the teacher's layers (rows) and this network's (columns).
        layers: names of the network's S layers.
    """

    logits: np.ndarray
    embeddings: np.ndarray
    cka: np.ndarray
    layers: tuple[str, ...]


def layers_of(features: Features) -> dict[str, Tensor]:
    """Layers that CKA compares, by name: the unpooled output of each stage, and the embedding."""
    stages = {f"stage {number}": stage for number, stage in enumerate(features.stages, 1)}
    return stages | {"embedding": features.embedding}


@torch.no_grad()
def collect(
    networks: Sequence[NamedNetwork],
    data: Arrays,
    entry: DatasetEntry,
    compute: Compute,
    chosen: np.ndarray,
    batch_size: int,
) -> list[Predictions]:
    """Predictions of each network; the first is the teacher, which CKA compares with all networks.

    Args:
        chosen: positions of the test images whose embeddings are kept, M.
        batch_size: at least 4; CKA leaves out a last batch of fewer than 4 images.

    Raises:
        RunError: an output is not finite.
    """
    shown = torch.zeros(len(data.test_labels), dtype=torch.bool)
    shown[torch.from_numpy(chosen)] = True
    logits: list[list[Tensor]] = [[] for _ in networks]
    embeddings: list[list[Tensor]] = [[] for _ in networks]
    means = [MeanCka() for _ in networks]
    names: list[tuple[str, ...]] = [()] * len(networks)
    start = 0
    for images, _ in evaluation_batches(data.test_images, data.test_labels, entry, batch_size, compute.device):
        teacher_grams: list[Tensor] = []
        kept = shown[start : start + len(images)]
        start += len(images)
        for number, named in enumerate(networks):
            with compute.autocast():
                features = named.network.features(images.contiguous(memory_format=torch.channels_last))
            logits[number].append(features.logits.float().cpu())
            embeddings[number].append(features.embedding.float().cpu()[kept])
            layers = layers_of(features)
            names[number] = tuple(layers)
            if len(images) >= SMALLEST_BATCH:
                grams = [centred_gram(layer) for layer in layers.values()]
                teacher_grams = teacher_grams or grams
                means[number].add(teacher_grams, grams)
    return [
        _checked(named, Predictions(torch.cat(z).numpy(), torch.cat(e).numpy(), mean.matrix(), layers))
        for named, z, e, mean, layers in zip(networks, logits, embeddings, means, names, strict=True)
    ]


def _checked(named: NamedNetwork, predictions: Predictions) -> Predictions:
    if not all(np.isfinite(part).all() for part in (predictions.logits, predictions.embeddings, predictions.cka)):
        raise RunError(f"{named.path}: its outputs are not finite, so its training diverged; choose another checkpoint")
    return predictions
