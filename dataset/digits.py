"""Handwritten digits of 8×8 pixels (Alpaydin and Kaynak, UCI, 1998), as they come with scikit-learn.

Real scans that need no network: small enough for a demonstration that trains in seconds.
"""

from pathlib import Path

import numpy as np

from common.errors import RequestError
from dataset.registry import Arrays, DatasetEntry, register_dataset

TEST_SIZE = 500
TRAIN_SIZE = 1297


def load_digits(data_folder: Path | None = None) -> Arrays:
    """1,297 training and 500 test images, uint8 N×8×8×3; nothing is read from or written to `data_folder`.

    Raises:
        RequestError: scikit-learn is missing, or its copy of the digits has another shape.
    """
    try:
        from sklearn.datasets import load_digits as load_scans
    except ImportError as error:
        raise RequestError("the data set digits comes with scikit-learn: pip install scikit-learn") from error
    scans = load_scans()
    grey, labels = np.asarray(scans.images), np.asarray(scans.target, dtype=np.int64)
    if grey.shape != (TRAIN_SIZE + TEST_SIZE, 8, 8):
        raise RequestError("scikit-learn's digits are not the 1,797 scans known: pip install 'scikit-learn>=1.0'")
    images = np.rint(grey * (255 / 16)).astype(np.uint8)  # the scans count the ink in 4×4 blocks: 0..16
    images = np.repeat(images[..., None], 3, axis=-1)
    held_out = spread_evenly(labels, TEST_SIZE)
    return Arrays(images[~held_out], labels[~held_out], images[held_out], labels[held_out])


def spread_evenly(labels: np.ndarray, count: int) -> np.ndarray:
    """Mark `count` samples for testing: of each class its share, evenly spread over its samples in their order.

    The shares are rounded by largest remainder (ties to the lower class). No random numbers are drawn, so the split is
    the same everywhere.

    Args:
        labels: int64 N.

    Returns:
        bool N.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    shares, remainders = np.divmod(sizes * count, len(labels))
    order = np.lexsort((classes, -remainders))
    shares[order[: count - shares.sum()]] += 1
    held_out = np.zeros(len(labels), dtype=bool)
    for label, size, share in zip(classes, sizes, shares, strict=True):
        ranks = np.arange(size + 1) * share // size
        held_out[np.flatnonzero(labels == label)[np.diff(ranks) > 0]] = True
    return held_out


register_dataset(
    DatasetEntry(
        name="digits",
        num_classes=10,
        image_size=8,
        train_size=TRAIN_SIZE,
        test_size=TEST_SIZE,
        mean=(0.3054, 0.3054, 0.3054),
        std=(0.3758, 0.3758, 0.3758),
        crop_padding=1,
        horizontal_flip=False,  # a mirrored 2 is no digit
        summary="scikit-learn's handwritten digits: 1,297 + 500 scans of 8×8 pixels in 10 classes, no download",
        load=load_digits,
        classes=tuple("0123456789"),
    )
)
