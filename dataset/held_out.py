"""A part of the training set held out, on which an epoch or a setting can be chosen without the test set."""

from dataclasses import replace

import numpy as np

from common.errors import RequestError
from dataset.registry import Arrays, DatasetEntry

SPLIT_SEED = 0  # the same images are held out in every run, whatever its trial


def without_held_out(entry: DatasetEntry, images: int) -> DatasetEntry:
    """The entry of a data set with `images` fewer training images; the entry itself for 0.

    Raises:
        RequestError: fewer images than classes would be held out, or be left.
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
    """Hold out `images` training images, in equal shares of the classes.

    Returns:
        The data set without them, and the same training set with the held-out images as its test set.

    Raises:
        RequestError: a class has a single image, which cannot be on both sides.
    """
    single = np.flatnonzero(np.bincount(data.train_labels) == 1)
    if len(single):
        raise RequestError(
            f"--validation {images}: class {single[0]} (counted from 0) has a single training image, which cannot be "
            f"split;\ngive each class two or more, or leave --validation out"
        )
    from sklearn.model_selection import train_test_split  # takes long to import, and few runs hold anything out

    kept, held = train_test_split(
        np.arange(len(data.train_labels)), test_size=images, stratify=data.train_labels, random_state=SPLIT_SEED
    )
    kept, held = np.sort(kept), np.sort(held)
    rest = data._replace(train_images=data.train_images[kept], train_labels=data.train_labels[kept])
    return rest, rest._replace(test_images=data.train_images[held], test_labels=data.train_labels[held])
