"""Compares the classes that a teacher was trained on with those of the data set that it shall teach on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.messages import cut
from dataset import DATASETS, DatasetEntry
from engine.checkpoints.read_checkpoint import is_own_file

SHOWN = 3  # classes in a message


@dataclass(frozen=True)
class ClassFit:
    """How the classes of a teacher's logits fit those of a data set.

    Attributes:
        misfit: why the logits say nothing of the data set's classes, a sentence that names the file; "" if they do.
        advice: how they could, beside fine-tuning; "" if there is nothing else.
        warning: what is doubtful about the classes; "" if nothing.
    """

    misfit: str = ""
    advice: str = ""
    warning: str = ""


FITS = ClassFit()  # as far as is known


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


def compare_classes(num_classes: int, recorded: tuple[str, ...], entry: DatasetEntry, path: Path) -> ClassFit:
    """How a teacher's classes fit those of a data set.

    Args:
        num_classes: of the teacher's classifier; 0 without one.
        recorded: their names; empty if they are unknown.
    """
    if not num_classes:
        return ClassFit(misfit=f"{path} has no classifier of its network")
    if num_classes != entry.num_classes:
        misfit = f"{path} was trained for {num_classes} classes, and {entry.name} has {entry.num_classes}"
        return ClassFit(misfit, advice="choose its data set with --dataset")
    if not recorded or not entry.classes or recorded == entry.classes:
        return FITS
    if sorted(recorded) == sorted(entry.classes):
        label = next(i for i, (own, known) in enumerate(zip(recorded, entry.classes, strict=True)) if own != known)
        return ClassFit(
            f"{path} has the classes of {entry.name} in another order (its class {label} is {cut(recorded[label])}, "
            f"here {cut(entry.classes[label])})",
            advice="rename the folders of the classes",
        )
    theirs, ours = (", ".join(map(cut, names[:SHOWN])) for names in (recorded, entry.classes))
    return ClassFit(warning=f"{path} was trained on other classes ({theirs}, ...) than {entry.name} has ({ours}, ...)")
