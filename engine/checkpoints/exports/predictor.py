"""Any network that can predict, behind one call: an exported file, or a weights file of this suite."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.errors import RequestError
from dataset import DatasetEntry
from engine.checkpoints.exports.description import KEY, Description, description_in
from engine.checkpoints.exports.formats import REQUIREMENTS, quiet
from engine.checkpoints.exports.names import Pixels
from engine.checkpoints.exports.source import load_deployed
from engine.checkpoints.run_weights import weights_file


@dataclass(frozen=True)
class Predictor:
    """A network and what it takes.

    Attributes:
        run: B×3×H×W images of the kind that the description names, to B×K logits.
    """

    description: Description
    run: Callable[[Tensor], Tensor]

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 B×H×W×3, as images are decoded, to float32 B×K logits."""
        return self.run(as_input(pixels, self.description.pixels))


def as_input(pixels: Tensor, kind: Pixels) -> Tensor:
    """uint8 B×H×W×3 to B×3×H×W of the given kind."""
    images = pixels.permute(0, 3, 1, 2).contiguous()
    return images if kind == "uint8" else images.float() / 255


def open_predictor(path: Path, entry: DatasetEntry | None = None, arch: str | None = None) -> Predictor:
    """Open a file by its suffix: .onnx, .pt2, or a weights file or run's folder.

    Args:
        entry, arch: as for `load_deployed`; exported files need neither.

    Raises:
        RequestError: the file is missing, damaged, or no such network; or a package is missing.
    """
    if path.suffix in OPENERS:
        if not path.is_file():
            raise RequestError(f"{path} is missing; check the path, or write it with export.py")
        return OPENERS[path.suffix](path)
    network, description = load_deployed(weights_file(path, "--path"), entry=entry, arch=arch)

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(images)

    return Predictor(description, run)


def open_onnx(path: Path) -> Predictor:
    """An ONNX file of export.py, run by ONNX Runtime on the CPU."""
    try:
        import onnxruntime
    except ImportError:
        raise RequestError(f"{path} needs the package onnxruntime: {REQUIREMENTS}") from None
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no class of their own
        raise RequestError(f"{path} is damaged or no ONNX file ({str(error).splitlines()[0][:100]})") from None
    description = description_in(session.get_modelmeta().custom_metadata_map, path)

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(logits)

    return Predictor(description, run)


def open_pt2(path: Path) -> Predictor:
    """A program of torch.export, run by PyTorch."""
    metadata = {KEY: ""}  # torch fills in the entries that are named
    try:
        with quiet():
            program = torch.export.load(str(path), extra_files=metadata).module()
    except Exception as error:  # zip, pickle, JSON and schema errors of many classes
        raise RequestError(f"{path} is damaged or no file of torch.export ({str(error)[:100]})") from None

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            return program(images)

    return Predictor(description_in(metadata, path), run)


OPENERS = {".onnx": open_onnx, ".pt2": open_pt2}
