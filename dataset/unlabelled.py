"""Images without labels, in and below any folder: on them a student learns from its teachers alone.

They train beside the images of a data set, or in their place. For a data set of photographs they are decoded as its own
are, ahead of each step. For one in memory they are decoded once: the shorter side of each is scaled to the data set's
size with bicubic interpolation, and the square in the middle is taken.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from common.errors import RequestError
from common.memory import gibibytes, memory_bytes
from common.user_paths import shown_path, why_unreachable
from dataset.folders import images_below, passed_over
from dataset.image_files import ImageFiles, middle
from dataset.image_reading import ENDINGS
from dataset.image_workers import from_workers, handed_over
from dataset.registry import UNLABELLED, Arrays, DatasetEntry
from dataset.to_device import DeviceArrays

CHUNK = 256  # images that a worker decodes in one go


@dataclass(frozen=True)
class Unlabelled:
    """Images without labels that the runs of a command train on.

    Attributes:
        files: by absolute names, so that none has a class and any may take the place of a damaged one.
        sha256: of the names below the folder and the sizes of all files, which identify them.
        only: the images of the data set's own training set are left out.
        notes: what a user should know of the folder, a line each.
    """

    files: ImageFiles
    sha256: str
    only: bool = False
    notes: tuple[str, ...] = ()


def open_unlabelled(folder: Path, size: int, only: bool = False) -> Unlabelled:
    """The images in and below `folder`, each to become a square of `size` pixels; reads file names, not files.

    Raises:
        RequestError: the folder is missing, holds no image, or cannot be read.
    """
    shown = f"--unlabelled {shown_path(folder)}"
    if (problem := why_unreachable(folder)) is not None:
        raise RequestError(f"{shown} {problem}")
    if folder.resolve() == folder.resolve().parent:
        raise RequestError(f"{shown} is the root of a file system; give a folder of images")
    if not folder.is_dir():
        raise RequestError(f"{shown} is {'no folder' if folder.exists() else 'missing'}; give a folder of images")
    names, passed = images_below(folder)
    if not names:
        raise RequestError(f"{shown} holds no image ({', '.join(ENDINGS)}); add some, or give another folder")
    root = os.path.abspath(folder)
    below = ImageFiles(Path(root), np.array([os.fsencode(name) for name in names]), size)
    absolute = np.array([os.fsencode(os.path.join(root, name)) for name in names])
    notes = (passed_over(folder, passed),) if passed else ()
    digest = hashlib.sha256(below.listing()).hexdigest()
    return Unlabelled(ImageFiles(Path(root), absolute, size), digest, only, notes)


def with_unlabelled(entry: DatasetEntry, unlabelled: Unlabelled | None) -> DatasetEntry:
    """The entry of a data set with images without labels in its training set; the entry itself for None."""
    if unlabelled is None:
        return entry
    return replace(entry, train_size=len(unlabelled.files) + (0 if unlabelled.only else entry.train_size))


def add_unlabelled(data: Arrays, unlabelled: Unlabelled | None) -> Arrays:
    """Put images without labels behind those of the training set, or in their place; the data itself for None.

    Raises:
        RequestError: they do not fit in memory.
        DataError: one cannot be decoded.
    """
    if unlabelled is None:
        return data
    images, files = data.train_images, unlabelled.files
    labels = np.full(len(files), UNLABELLED, dtype=np.int64)
    if isinstance(images, ImageFiles):
        if unlabelled.only:
            return data._replace(train_images=files, train_labels=labels)
        classes = None if images.classes is None else np.concatenate([images.classes, labels])
        names = np.concatenate([images.names, files.names])
        joined = ImageFiles(images.folder, names, images.size, images.left_out, classes=classes)
        return data._replace(train_images=joined, train_labels=np.concatenate([data.train_labels, labels]))
    pixels = decode_squares(files)
    if not unlabelled.only:
        pixels, labels = np.concatenate([images, pixels]), np.concatenate([data.train_labels, labels])
    return data._replace(train_images=pixels, train_labels=labels)


def decode_squares(files: ImageFiles) -> np.ndarray:
    """Decode all files, uint8 N×size×size×3: the shorter side scaled to `size`, and the square in the middle.

    Raises:
        RequestError: they do not fit in memory.
        DataError: one cannot be decoded.
    """
    needed, available = 2 * len(files) * files.size**2 * 3, memory_bytes()  # twice where they join others
    if available is not None and needed > available:
        raise RequestError(
            f"the {len(files)} images without labels take {gibibytes(needed)} of {gibibytes(available)} memory; "
            f"give a folder with fewer"
        )
    chunks = -(-len(files) // CHUNK)
    work = _Squares(files)
    found = from_workers(work, chunks) if chunks > 1 else iter([work[0]])
    shown = tqdm(found, desc=f"decoding {files.folder}", total=chunks, unit="x", leave=False, disable=None)
    pixels = np.empty((len(files), files.size, files.size, 3), dtype=np.uint8)
    for number, (squares, failed) in enumerate(shown):
        files.left_out.add(failed)
        pixels[number * CHUNK : (number + 1) * CHUNK] = np.asarray(squares)
    return pixels


@dataclass
class _Squares(Dataset):
    files: ImageFiles

    def __getitem__(self, number: int) -> tuple[torch.Tensor | np.ndarray, dict[str, str]]:
        failed: dict[str, str] = {}
        rows = range(number * CHUNK, min(len(self.files), (number + 1) * CHUNK))
        squares = [middle(self.files.decode_in_place(row, failed), self.files.size, share=1) for row in rows]
        return handed_over(np.stack([np.asarray(square) for square in squares])), failed


def also_tested(data: DeviceArrays) -> Iterator[str]:
    """Say how many images without labels are test images, pixel for pixel, of a data set in memory."""
    train, test = data.train_images, data.test_images
    if isinstance(train, ImageFiles) or isinstance(test, ImageFiles):
        return  # files are compared by `check_unlabelled`
    known = {image.tobytes() for image in test.cpu().numpy()}
    found = sum(image.tobytes() in known for image in train[data.train_labels == UNLABELLED].cpu().numpy())
    if found:
        yield f"{found} of the images without labels are test images, pixel for pixel"
