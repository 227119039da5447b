"""Which data sets exist, and what training on them should know."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import RequestError
from common.registry import Registry
from dataset.image_files import ImageFiles

Colour = tuple[float, float, float]


class Arrays(NamedTuple):
    """A data set in memory, or memory-mapped: images uint8 N×H×W×3 (RGB), labels int64 N, in the official order.

    Images may also be files that are decoded as they are asked for.
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


class DatasetRegistry(Registry[DatasetEntry]):
    """The named data sets, and behind prefixes what lies in a data folder: PREFIX:NAME, known once it was found."""

    def __init__(self):
        super().__init__("data set")
        self._libraries: dict[str, Callable[[str, Path], DatasetEntry]] = {}
        self._found: dict[str, DatasetEntry] = {}

    def add_library(self, prefix: str, open_named: Callable[[str, Path], DatasetEntry]) -> None:
        """Open all names that begin with `prefix` and a colon; called with the rest and the data folder."""
        self._libraries[prefix] = open_named

    def find(self, name: str, data_folder: Path) -> DatasetEntry:
        """The data set `name`, looked for in the data folder where that is what its prefix says.

        Raises:
            RequestError: there is none.
        """
        prefix, _, rest = name.partition(":")
        if prefix not in self._libraries:
            return self[name]
        entry = self._libraries[prefix](rest, data_folder)
        self._found[entry.name] = entry
        return entry

    def canonical(self, name: str) -> str:
        return name if name in self._found else super().canonical(name)

    def __getitem__(self, name: str) -> DatasetEntry:
        return self._found[name] if name in self._found else super().__getitem__(name)


DATASETS = DatasetRegistry()


def register_dataset(entry: DatasetEntry, aliases=()) -> DatasetEntry:
    """Add a data set to the list; returns it."""
    DATASETS.add(entry.name, entry, aliases)
    return entry


def load_arrays(name: str, data_folder: Path | str) -> Arrays:
    """The arrays of the data set `name`, fetched and converted once into `data_folder`.

    Raises:
        RequestError: unknown name, damaged files, nothing there and no network, or other arrays than the entry states;
            says how to mend it.
    """
    entry = DATASETS[name]
    arrays = entry.load(Path(data_folder))
    found = flaw(
        arrays,
        train_size=entry.train_size,
        test_size=entry.test_size,
        image_size=entry.image_size,
        num_classes=entry.num_classes,
    )
    if found is not None:
        field, reason = found
        kind = field.removeprefix("train_").removeprefix("test_")
        raise RequestError(f"data set {name}: {field} {reason};\n{_MENDS[kind]}")
    return arrays


_MENDS = {
    "images": "give uint8 from 0 to 255, colours last and grey three times, or mend the sizes in its DatasetEntry",
    "labels": "give int64 counted from 0, one an image, or mend the sizes and num_classes in its DatasetEntry",
}


def flaw(
    arrays: Arrays, *, train_size: int, test_size: int, image_size: int, num_classes: int
) -> tuple[str, str] | None:
    """The first field with another type, shape or label than so stated, and what it holds; None where all is well.

    Pixels are not looked at, so that files stay unread.
    """
    for field, array in zip(Arrays._fields, arrays, strict=True):
        size = train_size if field.startswith("train") else test_size
        if field.endswith("images"):
            expected = np.dtype(np.uint8), (size, image_size, image_size, 3)
        else:
            expected = np.dtype(np.int64), (size,)
        if isinstance(array, np.ndarray):
            found = array.dtype, array.shape
        elif isinstance(array, ImageFiles):
            found = np.dtype(np.uint8), (len(array), array.size, array.size, 3)
        else:
            found = "no numpy array but", type(array).__name__
        if found != expected:
            return field, f"holds {found[0]} {found[1]}, where {expected[0]} {expected[1]} is expected"
        if field.endswith("labels") and size and (array.min() < 0 or array.max() >= num_classes):
            return field, f"holds labels outside 0..{num_classes - 1}: {array.min()} to {array.max()}"
    return None


def digest(arrays: Arrays) -> str:
    """SHA-256 of all bytes of a data set, 64 hexadecimal digits; of files their names and sizes count."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(array.listing() if isinstance(array, ImageFiles) else np.ascontiguousarray(array))
    return total.hexdigest()
