"""The description inside an exported file: what the network takes, what its classes are, where it is from."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from common.errors import RequestError
from dataset.registry import Framing
from engine.checkpoints.exports.names import Pixels

KEY = "distilled_network"  # of the description among a file's other metadata


@dataclass(frozen=True)
class Description:
    """What a user of an exported network has to know.

    Attributes:
        arch: the network's registered name.
        dataset: that it was trained on.
        num_classes: K.
        image_size: height and width of the images in pixels.
        pixels: "uint8" for 0..255, "float" for float32 in 0..1; B×3×H×W in RGB either way.
        framing: which part of an image of another size is shown to it (see `DatasetEntry`).
        classes: names of the K classes in the order of the logits; empty if unknown.
        source_sha256: of the weights file that was exported.
        origin: method, teachers, accuracies, command and versions, as far as they are known.
    """

    arch: str
    dataset: str
    num_classes: int
    image_size: int
    pixels: Pixels
    framing: Framing = "whole"
    classes: tuple[str, ...] = ()
    source_sha256: str = ""
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.classes and len(self.classes) != self.num_classes:
            raise ValueError(f"{len(self.classes)} names of {self.num_classes} classes")

    def class_name(self, label: int) -> str:
        """The name of a class, or its number as text if names are unknown."""
        return self.classes[label] if self.classes else str(label)

    def as_metadata(self) -> dict[str, str]:
        """One entry whose value is JSON: all formats keep texts by name."""
        return {KEY: json.dumps(asdict(self), ensure_ascii=False)}


def description_in(metadata: Mapping[str, str], path: object) -> Description:
    """Read the description back from a file's metadata.

    Raises:
        RequestError: there is none, or it is damaged.
    """
    try:
        values = json.loads(metadata[KEY])
        return Description(**values | {"classes": tuple(map(str, values["classes"]))})
    except (KeyError, TypeError, ValueError, RecursionError):
        raise RequestError(f"{path} holds no description of its network; export it with export.py") from None
