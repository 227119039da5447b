"""What the epochs of a run come to: its best epoch, its curves in TensorBoard, its result.

A record of an epoch has `epoch`, `learning_rate`, `train` (means by name), `test` (top1, top5, loss), `seconds`,
`images_per_second`, and where there are such, `validation` (as `test`), `readings` and `answers`.
"""

import math
from collections.abc import Sequence
from statistics import median_high
from typing import Any

Record = dict[str, Any]


def best_of(history: Sequence[Record], on: str = "test") -> Record:
    """The first epoch with the highest accuracy on the test set, or on "validation"."""
    return max(history, key=lambda record: record[on]["top1"])


def scalars_of(record: Record) -> dict[str, float]:
    """An epoch's values by the names of their curves."""
    train, test = record["train"], record["test"]
    return {
        "train_loss": train["loss"],
        "train_acc": train["top1"],
        "test_loss": test["loss"],
        "test_acc": test["top1"],
        "test_acc_top5": test["top5"],
        "learning_rate": record["learning_rate"],
        **{f"loss/{name}": train[name] for name in train if name not in ("loss", "top1")},
        **record.get("readings", {}),
        **{f"validation_{name}": value for name, value in record.get("validation", {}).items()},
    }


def initial_scalars_of(record: Record) -> dict[str, float]:
    """The same of an epoch of an initial stage, of which there are means alone."""
    return {f"initial/{name}": value for name, value in record["train"].items()}


def result_of(history: Sequence[Record], initial_history: Sequence[Record]) -> Record:
    """What result.json says of the epochs: the last and the best, the one that held-out images choose, the time."""
    last, best = history[-1], best_of(history)
    result = {
        "epochs": len(history),
        "last": {"epoch": last["epoch"], **last["test"]},
        "best": {"epoch": best["epoch"], **best["test"]},
        "wall_seconds": round(math.fsum(record["seconds"] for record in [*initial_history, *history]), 3),
        "images_per_second": median_high(record["images_per_second"] for record in history),
    }
    if "validation" in last:
        chosen = best_of(history, "validation")
        result["by_validation"] = {"epoch": chosen["epoch"], **chosen["test"]}
    if "answers" in last:
        result["answers"] = last["answers"]
    return result
