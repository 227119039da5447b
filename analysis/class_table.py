"""Figures of classes as a text for terminals, as an object for JSON, and as CSV."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from analysis.per_class import balanced_accuracy, confusion, figures_by_class, largest_confusions
from common.json_files import printable
from common.spreadsheet import csv_of

LISTED = 10  # confusions
LONGEST_NAME = 30  # letters of a class in a text


@dataclass(frozen=True)
class ClassTable:
    """The figures of K classes.

    Attributes:
        counts: K×K, a row per true class, a column per prediction.
        names: K names on one line each; "" where the data set has none.
    """

    counts: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, labels: np.ndarray, predicted: np.ndarray, classes: int, names: Sequence[str]) -> "ClassTable":
        """Count predictions.

        Args:
            labels, predicted: true and predicted classes of N images.
            classes: their number, K.
            names: K names, or none.
        """
        return cls(confusion(labels, predicted, classes), tuple(map(printable, names)) or ("",) * classes)

    def records(self) -> list[dict[str, Any]]:
        """Returns an object for each class: the fields of `ClassFigures`, and the name of the class `mistaken_for`."""
        figures = figures_by_class(self.counts, self.names)
        others = (None if c.mistaken_for is None else self.names[c.mistaken_for] for c in figures)
        return [asdict(c) | {"mistaken_for_name": other} for c, other in zip(figures, others, strict=True)]

    def record(self) -> dict[str, Any]:
        """Returns `per_class`, an object for each class, and `confusion`, the K×K counts."""
        return {"per_class": self.records(), "confusion": self.counts.tolist()}

    def csv(self) -> str:
        """Returns a row for each class; no name is a formula to a spreadsheet."""
        return csv_of(pd.DataFrame(self.records()).astype({"mistaken_for": "Int64"}))

    def text(self) -> str:
        """Returns a table of the classes, balanced accuracy, and a table of the largest confusions."""
        classes = [
            (
                self._shown(c.label),
                c.images,
                _percent(c.recall),
                _percent(c.precision),
                "" if c.mistaken_for is None else f"{self._shown(c.mistaken_for)} ({c.times})",
            )
            for c in figures_by_class(self.counts, self.names)
        ]
        confusions = [
            (self._shown(c.true), self._shown(c.predicted), c.images, _percent(c.share))
            for c in largest_confusions(self.counts, LISTED)
        ]
        parts = [
            _aligned(classes, ["class", "images", "recall %", "precision %", "most often taken for"], "lrrrl"),
            f"balanced accuracy {balanced_accuracy(self.counts):.2f}",
        ]
        if confusions:
            parts.append(_aligned(confusions, ["true class", "taken for", "images", "% of the class"], "llrr"))
        return "\n\n".join(parts) + "\n"

    def _shown(self, label: int) -> str:
        name = self.names[label]
        if name in ("", str(label)):
            return str(label)
        return f"{label} {name if len(name) <= LONGEST_NAME else f'{name[: LONGEST_NAME - 1]}…'}"


def _aligned(rows: Iterable[tuple], heads: list[str], sides: str) -> str:
    align = ["left" if side == "l" else "right" for side in sides]
    return tabulate(list(rows), heads, tablefmt="simple", disable_numparse=True, colalign=align)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
