"""Eight-bit ONNX files: static quantisation of ONNX Runtime, calibrated on training images.

Quantised are the operators that have weights, and activations that follow them without arithmetic of their own. All
others, such as additions of branches, norms, GELU and softmax, compute in float32: they have few parameters, and each
would round once more. docs/deploy.md has what is lost by it.
"""

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from common.errors import RequestError
from common.files import write_bytes
from dataset import Arrays, pixel_batches
from engine.checkpoints.exports.description import Description
from engine.checkpoints.exports.formats import REQUIREMENTS, quiet
from engine.checkpoints.exports.predictor import as_input

if TYPE_CHECKING:
    from onnx import GraphProto

QUANTISED = ["Conv", "MatMul", "Gemm", "Relu", "Clip"]
CALIBRATION_IMAGES = 512
BATCH_SIZE = 32


def quantise(path: Path, out: Path, data: Arrays, description: Description) -> None:
    """Write an eight-bit form of an ONNX file: weights per channel, activations by their range on training images.

    Args:
        data: calibration reads CALIBRATION_IMAGES training images, evenly spread.

    Raises:
        RequestError: a package is missing.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise RequestError(f"--int8 needs the package {error.name}: {REQUIREMENTS}") from None

    class Reader(CalibrationDataReader):
        """Hands over one batch a call, and None after the last."""

        def __init__(self) -> None:
            self.batches = calibration_batches(data, description)

        def get_next(self) -> dict | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared, written = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        with quiet():
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(written),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=QUANTISED,
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,  # x86 multiplies unsigned by signed only
            )
        model = onnx.load(str(written))
    shorten_names(model.graph)
    onnx.helper.set_model_props(model, description.as_metadata())
    write_bytes(out, model.SerializeToString())


def shorten_names(graph: "GraphProto") -> None:
    """Number the values inside a graph, and drop the names and shapes that nothing reads.

    Quantisation gives each weight four long names. They are a quarter of the file of a small network.
    """
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}  # "": an input that is left out
    numbers: dict[str, str] = {}

    def short(name: str) -> str:
        return name if name in kept else numbers.setdefault(name, f"{len(numbers)}")

    for weight in graph.initializer:
        weight.name = short(weight.name)
    for node in graph.node:
        node.ClearField("name")
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
    graph.ClearField("value_info")


def calibration_batches(data: Arrays, description: Description) -> Iterator[dict]:
    """Training images, evenly spread over the set, as ONNX Runtime takes them: arrays by the name of the input."""
    rows = torch.linspace(0, len(data.train_labels) - 1, min(CALIBRATION_IMAGES, len(data.train_labels))).long()
    batches = pixel_batches(data.train_images[rows.numpy()], BATCH_SIZE, torch.device("cpu"))
    for pixels in islice(batches, CALIBRATION_IMAGES // BATCH_SIZE):
        yield {"images": as_input(pixels, description.pixels).numpy()}
