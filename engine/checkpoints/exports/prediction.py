"""The classes of image files, by any network that can predict."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from common.errors import RequestError, RunError
from dataset.image_reading import ENDINGS
from dataset.one_image import read_square
from engine.checkpoints.exports.description import Description
from engine.checkpoints.exports.predictor import Predictor

BATCH_SIZE = 32


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image, each with its probability, the likeliest first."""

    path: Path
    classes: tuple[tuple[str, float], ...]


def images_below(given: Sequence[Path]) -> Iterator[Path]:
    """The given files, and all images in and below the given folders, in order.

    Raises:
        RequestError: one of them is missing, or a folder holds no image.
    """
    for path in given:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
            if not found:
                raise RequestError(f"{path} holds no image ({', '.join(ENDINGS)}); name images or another folder")
            yield from found
        elif path.exists():
            yield path
        else:
            raise RequestError(f"{path} is missing; name images or folders of images")


def predict(predictor: Predictor, paths: Sequence[Path], top: int) -> tuple[list[Prediction], list[str]]:
    """The predictions of all images that can be read, and what is wrong with the others."""
    predictions: list[Prediction] = []
    unreadable: list[str] = []
    description = predictor.description
    for begin in range(0, len(paths), BATCH_SIZE):
        batch = []
        for path in paths[begin : begin + BATCH_SIZE]:
            try:
                batch.append((path, read_square(path, description.image_size, description.framing)))
            except RunError as error:
                unreadable.append(str(error))
        if batch:
            names, squares = zip(*batch, strict=True)
            probabilities = predictor(torch.stack(squares)).softmax(dim=1)
            predictions += [
                Prediction(path, likeliest(row, top, description))
                for path, row in zip(names, probabilities, strict=True)
            ]
    return predictions, unreadable


def likeliest(probabilities: torch.Tensor, top: int, description: Description) -> tuple[tuple[str, float], ...]:
    """Names and probabilities of the `top` likeliest of K classes."""
    values, labels = probabilities.topk(min(top, len(probabilities)))
    return tuple((description.class_name(label), p) for label, p in zip(labels.tolist(), values.tolist(), strict=True))
