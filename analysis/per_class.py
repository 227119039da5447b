"""Figures of each class, from a confusion matrix: how many of its images are found, and what it is mistaken for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassFigures:
    """One class of a test set.

    Attributes:
        label, name: number of the class, and its name, "" where it has none.
        images: how many test images it has.
        recall: share of them that are predicted as it, in per cent; None without images.
        precision: share of the predictions of it that are right, in per cent; None without such predictions.
        mistaken_for: label of the other class that is predicted most often for its images; None if none ever is.
        times: how often.
    """

    label: int
    name: str
    images: int
    recall: float | None
    precision: float | None
    mistaken_for: int | None
    times: int


@dataclass(frozen=True)
class Confusion:
    """Images of class `true` that are predicted as `predicted`: how many, and in per cent of the class."""

    true: int
    predicted: int
    images: int
    share: float


def confusion(rows: np.ndarray, columns: np.ndarray, classes: int) -> np.ndarray:
    """Count the images with class i in `rows` and class j in `columns`: int64 K×K."""
    return np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes)


def class_accuracy(counts: np.ndarray) -> np.ndarray:
    """Accuracy of each true class (row) in %, its recall, K; NaN for a class without images."""
    return _shares(np.diag(counts), counts.sum(axis=1))


def class_precision(counts: np.ndarray) -> np.ndarray:
    """Share of the predictions of each class (column) that are right in %, K; NaN for a class never predicted."""
    return _shares(np.diag(counts), counts.sum(axis=0))


def balanced_accuracy(counts: np.ndarray) -> float:
    """Mean recall in % of the classes that have images."""
    return float(np.nanmean(class_accuracy(counts)))


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Rows in % of their sums, K×K; a row of zeros stays zero."""
    return 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def figures_by_class(counts: np.ndarray, names: Sequence[str] = ()) -> list[ClassFigures]:
    """Figures of all K classes in the order of their labels.

    Args:
        counts: K×K, a row per true class, a column per prediction.
        names: K names, or none.
    """
    mistakes = counts - np.diag(np.diag(counts))
    others, most = mistakes.argmax(axis=1), mistakes.max(axis=1)
    recalls, precisions, images = class_accuracy(counts), class_precision(counts), counts.sum(axis=1)
    return [
        ClassFigures(
            label=label,
            name=names[label] if names else "",
            images=int(images[label]),
            recall=_known(recalls[label]),
            precision=_known(precisions[label]),
            mistaken_for=int(others[label]) if most[label] else None,
            times=int(most[label]),
        )
        for label in range(len(counts))
    ]


def largest_confusions(counts: np.ndarray, count: int) -> list[Confusion]:
    """The `count` most frequent mistakes, by their number of images; of equal ones the first classes."""
    mistakes = counts - np.diag(np.diag(counts))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
    shares = row_shares(counts)
    places = [divmod(int(place), len(counts)) for place in order]
    return [Confusion(i, j, int(mistakes[i, j]), float(shares[i, j])) for i, j in places if mistakes[i, j]]


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return 100 * part / np.where(whole, whole, np.nan)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
