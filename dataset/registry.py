"""Which data sets exist, and what training on them should know."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.registry import Registry

Colour = tuple[float, float, float]


class Arrays(NamedTuple):
    """A data set in memory, or memory-mapped: images uint8 N×H×W×3 (RGB), labels int64 N, in the official order."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True)
class DatasetEntry:
    """One named data set.

    Attributes:
        image_size: height and width in pixels.
        train_size, test_size: number of images.
        mean, std: per channel, of training pixels scaled to 0..1.
        crop_padding: pixels of zeros round an image from which its random crop is taken; 0 means no crop.
        horizontal_flip: whether a mirrored image keeps its meaning.
        summary: one line for `--list`.
        load: takes the data folder, returns the arrays, fetching and converting them where they are missing.
        at_hand: takes the data folder, says whether `load` would find the arrays there.
    """

    name: str
    num_classes: int
    image_size: int
    train_size: int
    test_size: int
    mean: Colour
    std: Colour
    crop_padding: int
    horizontal_flip: bool
    summary: str
    load: Callable[[Path], Arrays]
    at_hand: Callable[[Path], bool] = lambda folder: True


DATASETS: Registry[DatasetEntry] = Registry("data set")


def register_dataset(entry: DatasetEntry, aliases=()) -> DatasetEntry:
    """Add a data set to the list; returns it."""
    DATASETS.add(entry.name, entry, aliases)
    return entry


def load_arrays(name: str, data_folder: Path | str) -> Arrays:
    """The arrays of the data set `name`, fetched and converted once into `data_folder`.

    Raises:
        RequestError: unknown name, damaged files, or nothing there and no network; says how to mend it.
    """
    return DATASETS[name].load(Path(data_folder))


def digest(arrays: Arrays) -> str:
    """SHA-256 of all bytes of a data set, 64 hexadecimal digits."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()
