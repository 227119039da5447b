"""Reads the network that is to be exported, with the description that will travel with it."""

import json
import os
from pathlib import Path
from typing import Any

from common.errors import RequestError
from dataset import DATASETS, DatasetEntry
from engine.checkpoints.exports.deployed import DeployedNetwork
from engine.checkpoints.exports.description import Description
from engine.checkpoints.exports.names import Pixels
from engine.checkpoints.find_weights import WeightsChoice
from engine.checkpoints.read_checkpoint import is_own_file
from engine.checkpoints.weights import build_network, read_weights

HEADER = (
    "classes",
    "framing",
    "arch",
    "num_classes",
    "image_size",
    "dataset",
    "mean",
    "std",
    "epoch",
    "top1",
    "top5",
    "loss",
)
# The entries of config.json that say how a network was trained.
FROM_CONFIG = ("label", "weights", "kd_T", "options", "recipe", "precision", "trial", "seed", "run_id")
FROM_ENVIRONMENT = ("git_commit", "torch")


def load_deployed(
    path: Path, pixels: Pixels = "uint8", entry: DatasetEntry | None = None, arch: str | None = None
) -> tuple[DeployedNetwork, Description]:
    """Read a network, and describe it.

    Args:
        entry: the data set that it was trained on; needed only for files from elsewhere, ours have its constants.
        arch: name of the network, if neither the file nor its name gives it.

    Raises:
        RequestError: as `load_network`; or the file is from elsewhere and no data set is given.
    """
    file = read_weights(path)
    content, own = file.content, is_own_file(file.content)
    if entry is None:
        if not own:
            raise RequestError(f"{path} does not say what it was trained on; name the data set with --dataset")
        entry = recorded_entry(content)
    loaded = build_network(file, entry, arch=arch, choice=WeightsChoice(model_flag="--model"))
    header = {key: content[key] for key in HEADER if key in content} if own else {}
    method = content["method"] if own else None
    kept = None if method is None else {key: value for key, value in method.items() if key != "state"}
    header |= {"format": 1, "arch": loaded.arch, "method": kept, "mean": entry.mean, "std": entry.std}
    header |= {"num_classes": entry.num_classes, "image_size": entry.image_size, "dataset": entry.name}
    classes = tuple(content.get("classes", ())) if own else ()
    description = Description(
        arch=loaded.arch,
        dataset=entry.name,
        num_classes=entry.num_classes,
        image_size=entry.image_size,
        pixels=pixels,
        framing=entry.framing,
        classes=classes or entry.classes,
        source_sha256=loaded.sha256,
        origin={"header": header} | recorded_training(path.parent),
    )
    return DeployedNetwork(loaded.network, entry, pixels), description


def recorded_entry(content: dict[str, Any]) -> DatasetEntry:
    """The data set of one of our weights files, as far as a network has to know it; its images need not be there."""
    name = content["dataset"]
    known = DATASETS[name].classes if name in DATASETS else ()

    def missing(folder: Path) -> Any:
        raise RequestError(f"the images of {name} are needed; name them with --dataset and --data_folder")

    return DatasetEntry(
        name=name,
        num_classes=content["num_classes"],
        image_size=content["image_size"],
        train_size=0,
        test_size=0,
        mean=tuple(content["mean"]),
        std=tuple(content["std"]),
        crop_padding=0,
        horizontal_flip=False,
        summary="",
        load=missing,
        at_hand=lambda folder: False,
        classes=tuple(content.get("classes", ())) or known,
        # Files of earlier versions do not say it; there the sets that are not known by name are folders of photographs.
        framing=content.get("framing") or ("whole" if name in DATASETS else "middle"),
    )


def recorded_training(folder: Path) -> dict[str, Any]:
    """The record of the training in a run's folder; empty where there is none that can be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        environment = config["environment"]
        teachers = [{key: teacher.get(key) for key in ("model", "sha256", "top1")} for teacher in config["teachers"]]
        kept = {key: config[key] for key in FROM_CONFIG if key in config}
        command = [_without_folder(str(word)) for word in environment.get("command") or []]
        versions = {key: environment.get(key) for key in FROM_ENVIRONMENT}
        return kept | {"teachers": teachers, "command": command} | versions
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _without_folder(word: str) -> str:
    """A word of a command line; of an absolute path its name alone, as the file may go to strangers."""
    return os.path.basename(word) if os.path.isabs(word) else word
