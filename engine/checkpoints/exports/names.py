"""What exported files may be, by name: command lines are checked with these names before torch is imported."""

from dataclasses import dataclass
from typing import Literal

Pixels = Literal["uint8", "float"]


@dataclass(frozen=True)
class Format:
    """One format of exported files.

    Attributes:
        suffix: of its files.
        summary: what runs it.
    """

    suffix: str
    summary: str


FORMATS = {
    "onnx": Format(".onnx", "ONNX Runtime, OpenVINO, TensorRT, ..."),
    "pt2": Format(".pt2", "PyTorch alone, by torch.export.load"),
    "safetensors": Format(".safetensors", "weights for this suite and other tools; no graph"),
}
