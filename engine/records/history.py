"""The epochs of a run so far: as records, as metrics files, as curves in TensorBoard, and as a result.

The record of an epoch has `epoch`, `learning_rate`, `train` (means by name), `test` (top1, top5, loss, balanced),
`seconds` and `images_per_second`; some runs add `validation` (like `test`), `readings` (extra metrics), `answers` (test
results by prediction head) and `left_out` (images that could not be decoded, if no earlier record names them). The
record of an initial epoch has `epoch`, `epochs`, `train` and `seconds`. Records of earlier versions have no `balanced`.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from statistics import median_high
from typing import Any

from engine.records.run_folder import RunFolder
from engine.records.tensorboard import TensorBoard

Record = dict[str, Any]


class History:
    """The records of one run, kept in step with the files in its folder.

    Attributes:
        epochs: records of the epochs, oldest first.
        initial: records of the epochs of the method's initial stage, before the first of `epochs`.
    """

    def __init__(self, folder: RunFolder):
        self.epochs: list[Record] = []
        self.initial: list[Record] = []
        self._folder = folder

    @cached_property
    def _board(self) -> TensorBoard:
        """Made when it is first needed: only then it is settled where the run is written."""
        return TensorBoard(self._folder.events, self._folder.writes)

    @property
    def best(self) -> Record:
        """The record of the best epoch on the test set so far."""
        return best_of(self.epochs)

    def restore(self, epochs: Sequence[Record], initial: Sequence[Record]) -> None:
        """Continue from these records. All curves are written again: an interrupted run may lack its last points."""
        self.epochs, self.initial = list(epochs), list(initial)
        self._folder.check_hold()
        self._board.clear()
        for record in self.initial:
            self._board.log(record["epoch"], initial_scalars_of(record))
        for record in self.epochs:
            self._board.log(record["epoch"], scalars_of(record))

    def publish_last(self) -> None:
        """Write the metrics file, and the last epoch's values as curves."""
        self.write_metrics()
        self._board.log(self.epochs[-1]["epoch"], scalars_of(self.epochs[-1]))

    def publish_last_initial(self) -> None:
        """Write the metrics file of the initial stage, and its last epoch's values as curves."""
        self.write_metrics()
        self._board.log(self.initial[-1]["epoch"], initial_scalars_of(self.initial[-1]))

    def write_metrics(self) -> None:
        """Write all records into the metrics files."""
        if self.initial:
            self._folder.write_initial_metrics(self.initial)
        if self.epochs:
            self._folder.write_metrics(self.epochs)

    def not_recorded(self, left_out: Iterable[str]) -> list[str]:
        """Those of the images left out that no record names yet, sorted."""
        return sorted(set(left_out) - set(left_out_of(self.epochs)))

    def result(self) -> Record:
        """The part of result.json that follows from the records (see `result_of`)."""
        return result_of(self.epochs, self.initial)


def left_out_of(epochs: Sequence[Record]) -> list[str]:
    """The images that some epoch had to leave out, sorted."""
    return sorted({file for record in epochs for file in record.get("left_out", ())})


def best_of(epochs: Sequence[Record], on: str = "test") -> Record:
    """The first epoch with the highest top-1 accuracy on the "test" set or on the "validation" images.

    Balanced accuracy chooses nothing, also where classes are uneven: one rule for every table.
    """
    return max(epochs, key=lambda record: record[on]["top1"])


def scalars_of(record: Record) -> dict[str, float]:
    """The values of an epoch by the names of their TensorBoard curves."""
    train, test = record["train"], record["test"]
    return {
        "train_loss": train["loss"],
        **({"train_acc": train["top1"]} if "top1" in train else {}),
        "test_loss": test["loss"],
        "test_acc": test["top1"],
        "test_acc_top5": test["top5"],
        **({"test_acc_balanced": test["balanced"]} if "balanced" in test else {}),  # earlier versions have none
        "learning_rate": record["learning_rate"],
        **{f"loss/{name}": train[name] for name in train if name not in ("loss", "top1")},
        **record.get("readings", {}),
        **{f"validation_{name}": value for name, value in record.get("validation", {}).items()},
    }


def initial_scalars_of(record: Record) -> dict[str, float]:
    """The values of an initial epoch, which are means over its batches, by the names of their curves."""
    return {f"initial/{name}": value for name, value in record["train"].items()}


def result_of(epochs: Sequence[Record], initial: Sequence[Record]) -> Record:
    """Summarise the epochs for result.json.

    Returns:
        The last epoch and the best on the test set, the wall time in seconds, and the median of images per second. If
        images are held out, also the epoch that is best on them: its test figures in `by_validation`, and those on the
        held-out images in `validation`. The images
        left out, if there are any.
    """
    last, best = epochs[-1], best_of(epochs)
    result = {
        "epochs": len(epochs),
        "last": {"epoch": last["epoch"], **last["test"]},
        "best": {"epoch": best["epoch"], **best["test"]},
        "wall_seconds": round(math.fsum(record["seconds"] for record in [*initial, *epochs]), 3),
        "images_per_second": median_high(record["images_per_second"] for record in epochs),
    }
    if "validation" in last:
        chosen = best_of(epochs, "validation")
        result["by_validation"] = {"epoch": chosen["epoch"], **chosen["test"]}
        result["validation"] = {"epoch": chosen["epoch"], **chosen["validation"]}
    if "answers" in last:
        result["answers"] = last["answers"]
    if left_out := left_out_of(epochs):
        result["left_out"] = {"images": len(left_out), "files": left_out}
    return result
