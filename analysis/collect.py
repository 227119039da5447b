"""One pass of all networks over the test images, from which every number comes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.cka import SMALLEST_BATCH, MeanCka, centred_gram
from analysis.subjects import Subject
from common.errors import RunError
from dataset import Arrays, DatasetEntry, evaluation_batches
from engine.device.compute import Compute
from models import Features


@dataclass(frozen=True)
class Answers:
    """What a network says of the test images.

    Attributes:
        logits: float32 N×K, of all N images.
        embeddings: float32 M×D, of the M chosen images.
        cka: float64 T×S, linear CKA of the teacher's layers (rows) and this network's (columns).
        layers: the names of the network's layers, S.
    """

    logits: np.ndarray
    embeddings: np.ndarray
    cka: np.ndarray
    layers: tuple[str, ...]


def layers_of(features: Features) -> dict[str, Tensor]:
    """What CKA compares, by name: the output of each stage, neither pooled nor cut, and the embedding."""
    stages = {f"stage {number}": stage for number, stage in enumerate(features.stages, 1)}
    return stages | {"embedding": features.embedding}


@torch.no_grad()
def collect(
    subjects: Sequence[Subject],
    data: Arrays,
    entry: DatasetEntry,
    compute: Compute,
    chosen: np.ndarray,
    batch_size: int,
) -> list[Answers]:
    """The answers of each network; the first is the teacher, with which CKA compares all.

    Args:
        chosen: positions of the test images whose embeddings are kept.
        batch_size: at least 4; a last batch of fewer images than that is left out of CKA.

    Raises:
        RunError: a network answers with something that is no number.
    """
    shown = torch.zeros(len(data.test_labels), dtype=torch.bool)
    shown[torch.from_numpy(chosen)] = True
    logits: list[list[Tensor]] = [[] for _ in subjects]
    embeddings: list[list[Tensor]] = [[] for _ in subjects]
    means = [MeanCka() for _ in subjects]
    names: list[tuple[str, ...]] = [()] * len(subjects)
    start = 0
    for images, _ in evaluation_batches(data.test_images, data.test_labels, entry, batch_size, compute.device):
        teacher_grams: list[Tensor] = []
        kept = shown[start : start + len(images)]
        start += len(images)
        for number, subject in enumerate(subjects):
            with compute.autocast():
                features = subject.network.features(images.contiguous(memory_format=torch.channels_last))
            logits[number].append(features.logits.float().cpu())
            embeddings[number].append(features.embedding.float().cpu()[kept])
            layers = layers_of(features)
            names[number] = tuple(layers)
            if len(images) >= SMALLEST_BATCH:
                grams = [centred_gram(layer) for layer in layers.values()]
                teacher_grams = teacher_grams or grams
                means[number].add(teacher_grams, grams)
    return [
        _checked(subject, Answers(torch.cat(z).numpy(), torch.cat(e).numpy(), mean.matrix(), layers))
        for subject, z, e, mean, layers in zip(subjects, logits, embeddings, means, names, strict=True)
    ]


def _checked(subject: Subject, answers: Answers) -> Answers:
    if not all(np.isfinite(part).all() for part in (answers.logits, answers.embeddings, answers.cka)):
        raise RunError(f"{subject.path} answers with numbers that are not finite; its training failed, take another")
    return answers
