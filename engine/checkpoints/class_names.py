"""Compares the classes that a teacher was trained on with those of the data set that it shall teach on."""

from pathlib import Path
from typing import Any

from common.errors import RequestError
from common.messages import cut
from dataset import DATASETS, DatasetEntry
from engine.checkpoints.read_checkpoint import is_own_file

SHOWN = 3  # classes in a message


def recorded_classes(content: Any) -> tuple[str, ...]:
    """The names of the classes that a weights file of this suite was trained on; empty if they are unknown.

    Files of earlier versions have none; there those of the data set count, if it has names.
    """
    if not is_own_file(content):
        return ()
    if names := content.get("classes"):
        return tuple(map(str, names))
    dataset = content.get("dataset")
    return DATASETS[dataset].classes if isinstance(dataset, str) and dataset in DATASETS else ()


def compare_classes(recorded: tuple[str, ...], entry: DatasetEntry, path: Path) -> str:
    """A warning if a teacher knows other classes than the data set has; "" if they are the same or unknown.

    Raises:
        RequestError: they are those of the data set in another order, so that every prediction would be a wrong one.
    """
    if not recorded or not entry.classes or recorded == entry.classes:
        return ""
    if sorted(recorded) == sorted(entry.classes):
        label = next(i for i, (own, known) in enumerate(zip(recorded, entry.classes, strict=True)) if own != known)
        raise RequestError(
            f"{path} has the classes of {entry.name} in another order: its class {label} is {cut(recorded[label])}, "
            f"here {cut(entry.classes[label])};\nrename the folders of the classes, or train a teacher on this data set"
        )
    theirs, ours = (", ".join(map(cut, names[:SHOWN])) for names in (recorded, entry.classes))
    return f"{path} was trained on other classes ({theirs}, ...) than {entry.name} has ({ours}, ...)"
