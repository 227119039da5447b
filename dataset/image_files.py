"""Photographs in files of any size, and the squares of them that networks see.

For training a random part of each is scaled to the square (the random resized crop of Szegedy et al., CVPR 2015); for
testing the shorter side is scaled to size/0.875 and the square in the middle taken. Both give what torchvision's
transforms give, whose import takes longer than many a command, with bicubic interpolation as for DeiT.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import DataError, RequestError
from dataset.image_reading import UnreadableImage, read_rgb
from dataset.left_out import LeftOut, printable

CROP_AREA = (0.08, 1.0)  # of the image
CROP_ASPECT = (3 / 4, 4 / 3)  # width to height
CROP_ATTEMPTS = 10  # to draw a box that fits
MOST_ASPECT = 100  # of an image that is scaled as a whole: thinner ones would fill the memory
MOST_IN_PLACE = 100  # images that are tried in the place of one; where all fail, it is the folder that is lost
TEST_SHARE = 0.875  # the middle square's side, of the shorter side

Box = tuple[int, int, int, int]


class ImageFiles:
    """N images below a folder, each to become a square of `size` pixels; indexed by rows as an array is.

    Args:
        names: file names relative to `folder`, as `os.fsencode` gives them, in an array of bytes: no Python objects,
            so that worker processes share its memory. The first part of each is its class; classes come one by one.
            Absolute names are those of images without a class.
        left_out: gets the files that cannot be decoded, or forbids them.
        marks: of rows whose pixels are read other than as they lie in the file, for `listing`.
        classes: the class of each row, in whose place the first part of the name stands where they are None.
    """

    def __init__(
        self,
        folder: Path,
        names: np.ndarray,
        size: int,
        left_out: LeftOut | None = None,
        marks: Mapping[int, str] | None = None,
        classes: np.ndarray | None = None,
    ):
        self.folder, self.names, self.size = folder, names, size
        self.left_out, self.marks, self.classes = left_out or LeftOut(), marks or {}, classes

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: np.ndarray) -> "ImageFiles":
        classes = None if self.classes is None else self.classes[rows]
        return ImageFiles(self.folder, self.names[rows], self.size, self.left_out, classes=classes)

    def marked(self, marks: Mapping[int, str]) -> "ImageFiles":
        """These files with other marks."""
        return ImageFiles(self.folder, self.names, self.size, self.left_out, marks, self.classes)

    def path(self, row: int) -> Path:
        """The file of one image."""
        return self.folder / os.fsdecode(self.names[row])

    def label(self, row: int) -> str:
        """The file of one image below the data set's folder, or its absolute name, for messages and records."""
        name = os.fsdecode(self.names[row])
        return printable(name if os.path.isabs(name) else f"{self.folder.name}/{name}")

    def listing(self) -> bytes:
        """Names and sizes in bytes of all files, which identify the set: reading all files would take hours.

        Raises:
            RequestError: a file is missing or cannot be read.
        """
        try:
            return b"".join(self._line(row, name) for row, name in enumerate(self.names))
        except OSError as error:
            path = printable(str(error.filename))
            raise RequestError(f"{path} cannot be read ({error.strerror}); repair or remove it") from error

    def _line(self, row: int, name: bytes) -> bytes:
        mark = f" {self.marks[row]}" if row in self.marks else ""
        return b"%s %d%s\n" % (name, self.path(row).stat().st_size, mark.encode())

    def decode(self, row: int) -> Image.Image:
        """One image in RGB of 8 bits (see `read_rgb`).

        Raises:
            DataError: it cannot be read, or the range of its values is unknown.
        """
        try:
            return read_rgb(self.path(row))
        except UnreadableImage as error:
            advice = (
                "with it put back the same command continues; without it runs start anew (--overwrite)"
                if error.missing
                else "--skip_bad_images trains without such files, unfinished runs too;\n"
                "if you replace or remove it, runs start anew (--overwrite)"
            )
            path = printable(str(self.path(row)))
            raise DataError(f"{path} cannot be decoded ({error.reason}); {advice}") from error

    def decode_in_place(self, row: int, failed: dict[str, str]) -> Image.Image:
        """One image, or the next one of its class if it cannot be decoded and may be left out.

        Args:
            failed: gets the reason for each file that cannot be decoded.

        Raises:
            DataError: it cannot be read, nor can others that might take its place.
        """
        if not self.left_out.allowed:
            return self.decode(row)
        for other in islice(self.rows_of_class(row), MOST_IN_PLACE):
            try:
                return read_rgb(self.path(other))
            except UnreadableImage as error:
                failed[self.label(other)] = error.reason
        reason = failed[self.label(row)]
        raise DataError(
            f"{self.label(row)} cannot be decoded ({reason}), nor can any image of its class that might take its place"
        )

    def rows_of_class(self, row: int) -> Iterator[int]:
        """The row, those after it in its class, and those before it."""
        for rows in (range(row, len(self)), range(row - 1, -1, -1)):
            for other in rows:
                if self._class_of(other) != self._class_of(row):
                    break
                yield other

    def _class_of(self, row: int) -> bytes | int:
        return self.names[row].partition(os.fsencode(os.sep))[0] if self.classes is None else int(self.classes[row])


def middle(image: Image.Image, size: int, share: float = TEST_SHARE) -> Image.Image:
    """The square in the middle of an image, `size` pixels wide.

    Args:
        share: the square's side, of the shorter side.
    """
    scaled = round(size / share)
    if max(image.size) > MOST_ASPECT * min(image.size):
        longest = MOST_ASPECT * min(image.size)
        width, height = (min(side, longest) for side in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    width, height = image.size
    shorter = min(width, height)
    scaled_size = (int(scaled * width / shorter), int(scaled * height / shorter))
    image = image.resize(scaled_size, Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def part(image: Image.Image, size: int, draws: Sequence[Sequence[float]]) -> Image.Image:
    """The part of an image that `draws` choose (see `random_box`), scaled to a square of `size` pixels."""
    return image.crop(random_box(*image.size, draws)).resize((size, size), Image.Resampling.BICUBIC)


def random_box(width: int, height: int, draws: Sequence[Sequence[float]]) -> Box:
    """Left, top, right and bottom of the first box that fits into the image, or of the largest one in the middle.

    Args:
        draws: for each attempt four numbers in [0, 1): area, aspect (in the logarithm), and place across and down.
    """
    low, high = (math.log(aspect) for aspect in CROP_ASPECT)
    for of_area, of_aspect, across, down in draws:
        area = (CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * of_area) * width * height
        aspect = math.exp(low + (high - low) * of_aspect)
        wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < tall <= height:
            left, top = int(across * (width - wide + 1)), int(down * (height - tall + 1))
            return left, top, left + wide, top + tall
    narrowest, widest = CROP_ASPECT
    wide, tall = min(width, round(height * widest)), min(height, round(width / narrowest))
    left, top = (width - wide) // 2, (height - tall) // 2
    return left, top, left + wide, top + tall
