"""The names of the classes that a weights file was trained on."""

from typing import Any

from dataset import DATASETS
from engine.checkpoints.read_checkpoint import is_own_file


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
