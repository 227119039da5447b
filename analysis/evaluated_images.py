"""The images that networks were tested on, with their classes."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from common.json_files import printable
from dataset import Arrays, DatasetEntry
from dataset.image_files import ImageFiles, middle

LONGEST_NAME = 14  # letters of a class in a picture


@dataclass(frozen=True)
class EvaluatedImages:
    """The test set of a data set.

    Attributes:
        images: N pictures, uint8 N×H×W×3 or files.
        labels: their classes, int64 N.
        names: names of the K classes on one line each; empty if they have none.
        num_classes: K.
    """

    images: np.ndarray | ImageFiles
    labels: np.ndarray
    names: tuple[str, ...]
    num_classes: int

    @classmethod
    def of(cls, data: Arrays, entry: DatasetEntry) -> "EvaluatedImages":
        """The test set of a data set that is loaded."""
        names = tuple(map(printable, entry.classes))
        return cls(data.test_images, np.asarray(data.test_labels), names, entry.num_classes)

    @property
    def texts(self) -> list[str]:
        """A short text for each class, in pictures: its name, cut and with its number if it is long, or its number."""
        return [short_text(label, name) for label, name in enumerate(self.names or [""] * self.num_classes)]

    def picture(self, row: int) -> Image.Image:
        """One image as networks see it; of a photograph the square in the middle. Raises DataError if it is damaged."""
        if isinstance(self.images, ImageFiles):
            return middle(self.images.decode_in_place(row, {}), self.images.size)
        return Image.fromarray(np.ascontiguousarray(self.images[row]))

    def file(self, row: int) -> str:
        """The file of a photograph below the data set's folder; "" for images in arrays."""
        return self.images.label(row) if isinstance(self.images, ImageFiles) else ""


def short_text(label: int, name: str) -> str:
    """The name of a class, cut and with its number if it is long; its number if it has no name."""
    if not name:
        return str(label)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}… ({label})"
