"""The registered data sets, and what training should know of each."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from common.errors import RequestError
from common.registry import Registry
from dataset.image_files import ImageFiles
from dataset.left_out import LeftOut

Colour = tuple[float, float, float]
Framing = Literal["whole", "middle"]
UNLABELLED = -1  # in the place of a label that is not known


class Arrays(NamedTuple):
    """A data set in memory, or memory-mapped: images uint8 N×H×W×3 (RGB), labels int64 N, in the official order.

    Images may also be files that are decoded when they are needed.
    """

    train_images: np.ndarray | ImageFiles
    train_labels: np.ndarray
    test_images: np.ndarray | ImageFiles
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
        load: takes the data folder and returns the arrays; fetches and converts them if they are missing.
        at_hand: takes the data folder and tells whether `load` would find the arrays there.
        classes: names of the classes in the order of the labels; empty if they have none.
        framing: which part of an image of another size is tested: the whole, scaled to a square, or the square in the
            middle.
        notes: what a user should know of the files, a line each.
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
    classes: tuple[str, ...] = ()
    framing: Framing = "whole"
    notes: tuple[str, ...] = ()


class DatasetRegistry(Registry[DatasetEntry]):
    """The named data sets, and those of prefixes, which lie in a data folder: PREFIX:NAME is known after `find`."""

    def __init__(self) -> None:
        super().__init__("data set")
        self._libraries: dict[str, Callable[[str, Path], DatasetEntry]] = {}
        self._found: dict[str, DatasetEntry] = {}

    def add_library(self, prefix: str, open_named: Callable[[str, Path], DatasetEntry]) -> None:
        """Let `open_named` resolve all names that begin with `prefix` and a colon.

        Args:
            open_named: called with the rest of the name and the data folder.
        """
        self._libraries[prefix] = open_named

    def find(self, name: str, data_folder: Path) -> DatasetEntry:
        """The data set `name`; one with a prefix is looked up in the data folder.

        Raises:
            RequestError: unknown name, or nothing of that name in the data folder.
        """
        prefix, _, rest = name.partition(":")
        if prefix not in self._libraries:
            return self[name]
        entry = self._libraries[prefix](rest, data_folder)
        self._found[entry.name] = entry
        return entry

    def canonical(self, name: str) -> str:
        """The registered name behind a name or an alias; raises RequestError for an unknown one."""
        return name if name in self._found else super().canonical(name)

    def __getitem__(self, name: str) -> DatasetEntry:
        return self._found[name] if name in self._found else super().__getitem__(name)


DATASETS = DatasetRegistry()


def register_dataset(entry: DatasetEntry, aliases: Iterable[str] = ()) -> DatasetEntry:
    """Register a data set and return it."""
    DATASETS.add(entry.name, entry, aliases)
    return entry


def load_arrays(name: str, data_folder: Path | str, left_out: LeftOut | None = None) -> Arrays:
    """The arrays of the data set `name`, fetched and converted once into `data_folder`.

    Args:
        left_out: gets the photographs that cannot be decoded; without it each of them is an error.

    Raises:
        RequestError: unknown name, damaged files, missing files that cannot be fetched, or arrays that differ from the
            data set's entry.
    """
    entry = DATASETS[name]
    arrays = entry.load(Path(data_folder))
    flaw = find_flaw(arrays, entry)
    if flaw is not None:
        field, reason = flaw
        kind = field.removeprefix("train_").removeprefix("test_")
        raise RequestError(f"data set {name}: {field} {reason};\n{_ADVICE[kind]}")
    if left_out is not None:
        for images in (arrays.train_images, arrays.test_images):
            if isinstance(images, ImageFiles):
                images.left_out = left_out
    return arrays


_ADVICE = {
    "images": "give uint8 from 0 to 255, colours last and grey three times, or correct the sizes in its DatasetEntry",
    "labels": "give int64 counted from 0, one an image, or correct the sizes and num_classes in its DatasetEntry",
}


class Sizes(Protocol):
    """The sizes that a data set must have, from its `DatasetEntry` or the source of its files."""

    @property
    def num_classes(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def train_size(self) -> int: ...
    @property
    def test_size(self) -> int: ...


def find_flaw(arrays: Arrays, sizes: Sizes) -> tuple[str, str] | None:
    """The first field with another type, shape or label than expected, and what it holds; None if all are right.

    Pixels are not checked, so that files stay unread.
    """
    for field, array in arrays._asdict().items():
        size = sizes.train_size if field.startswith("train") else sizes.test_size
        is_images = field.endswith("images")
        expected = f"uint8 {(size, sizes.image_size, sizes.image_size, 3)}" if is_images else f"int64 {(size,)}"
        if isinstance(array, ImageFiles):
            found = f"uint8 {(len(array), array.size, array.size, 3)}"
        elif isinstance(array, np.ndarray):
            found = f"{array.dtype} {array.shape}"
        else:
            found = f"a {type(array).__name__}, not a numpy array"
        if found != expected:
            return field, f"holds {found}, where {expected} is expected"
        if not is_images and size and (array.min() < 0 or array.max() >= sizes.num_classes):
            return field, f"holds labels outside 0..{sizes.num_classes - 1}: {array.min()} to {array.max()}"
    return None


def digest(arrays: Arrays) -> str:
    """SHA-256 of all bytes of a data set, 64 hexadecimal digits; files count by their names, sizes and marks."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(array.listing() if isinstance(array, ImageFiles) else np.ascontiguousarray(array).data)
    return total.hexdigest()
