"""A part of the training set held out, on which an epoch or a setting can be chosen without a look at the test set."""

from dataclasses import replace

import numpy as np

from common.errors import RequestError
from dataset.registry import Arrays, DatasetEntry

SPLIT_SEED = 0  # the same images are held out in every run, whatever its trial


def without_held_out(entry: DatasetEntry, images: int) -> DatasetEntry:
    """The data set with so many fewer training images; itself for 0.

    Raises:
        RequestError: fewer than one image of each class would be held out, or be left.
    """
    if images == 0:
        return entry
    if not entry.num_classes <= images <= entry.train_size - entry.num_classes:
        raise RequestError(
            f"--validation {images}: {entry.name} has {entry.train_size} training images of {entry.num_classes} "
            f"classes; hold out {entry.num_classes} to {entry.train_size - entry.num_classes} of them, or 0"
        )
    return replace(entry, train_size=entry.train_size - images)


def hold_out(data: Arrays, images: int) -> tuple[Arrays, Arrays]:
    """Training images without `images` of them, in equal shares of the classes; and those held out.

    Returns:
        Two records with the same training set; the test set of the second is what is held out.

    Raises:
        RequestError: a class has a single image, which cannot be on both sides.
    """
    single = np.flatnonzero(np.bincount(data.train_labels) == 1)
    if len(single):
        raise RequestError(
            f"--validation {images}: class {single[0]} (counted from 0) has a single training image, which cannot be "
            f"parted;\ngive each class two or more, or do without --validation"
        )
    from sklearn.model_selection import train_test_split  # takes long to import, and few runs hold anything out

    kept, held = train_test_split(
        np.arange(len(data.train_labels)), test_size=images, stratify=data.train_labels, random_state=SPLIT_SEED
    )
    kept, held = np.sort(kept), np.sort(held)
    rest = data._replace(train_images=data.train_images[kept], train_labels=data.train_labels[kept])
    return rest, rest._replace(test_images=data.train_images[held], test_labels=data.train_labels[held])
