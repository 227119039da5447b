"""Data sets, a file per family, kept as uint8 arrays; batches are augmented as tensors on the compute device."""

from dataset.augment import Augmentation
from dataset.held_out import hold_out, without_held_out
from dataset.image_check import check_images
from dataset.left_out import LeftOut
from dataset.registry import DATASETS, UNLABELLED, Arrays, DatasetEntry, digest, load_arrays
from dataset.stream import Batch, Batching, BatchStream, WithoutLabels, evaluation_batches, pixel_batches
from dataset.unlabelled import Unlabelled, add_unlabelled, open_unlabelled, with_unlabelled

DATASETS.add_package(__name__, __path__)

__all__ = [
    "DATASETS",
    "UNLABELLED",
    "Arrays",
    "Augmentation",
    "Batch",
    "BatchStream",
    "Batching",
    "DatasetEntry",
    "LeftOut",
    "Unlabelled",
    "WithoutLabels",
    "add_unlabelled",
    "check_images",
    "digest",
    "evaluation_batches",
    "hold_out",
    "load_arrays",
    "open_unlabelled",
    "pixel_batches",
    "with_unlabelled",
    "without_held_out",
]
