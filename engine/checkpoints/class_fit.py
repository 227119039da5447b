"""How the classes that a teacher was trained on fit those of the data set that it shall teach on."""

from dataclasses import dataclass
from pathlib import Path

from common.messages import cut
from dataset import DatasetEntry
from engine.checkpoints.weights import LoadedNetwork

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


def compare_classes(loaded: LoadedNetwork, entry: DatasetEntry, path: Path) -> ClassFit:
    """How a teacher's classes fit those of a data set."""
    if not loaded.num_classes:
        return ClassFit(misfit=f"{path} has no classifier of its network")
    if loaded.num_classes != entry.num_classes:
        misfit = f"{path} was trained for {loaded.num_classes} classes, and {entry.name} has {entry.num_classes}"
        known = loaded.dataset not in (None, entry.name)
        return ClassFit(misfit, advice=f"choose its data set, --dataset {loaded.dataset}" if known else "")
    recorded = loaded.classes
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
