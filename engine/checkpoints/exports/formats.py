"""How a network is written in each of the formats of exported files."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from common.errors import RequestError
from common.files import write_bytes
from engine.checkpoints.exports.deployed import DeployedNetwork, exported_program
from engine.checkpoints.exports.description import Description
from engine.checkpoints.exports.own_safetensors import safetensors_of

REQUIREMENTS = "pip install -r requirements-export.txt"
LARGEST_ONNX = 2 * 2**30  # bytes; protobuf writes no larger message


def write_export(name: str, path: Path, network: DeployedNetwork, description: Description) -> None:
    """Write a network in the format `name`, atomically.

    Raises:
        RequestError: a package that the format needs is missing, or the network is too large for it.
        RunError: the file cannot be written.
    """
    write_bytes(path, CONTENT[name](network, description))


def onnx_of(network: DeployedNetwork, description: Description) -> bytes:
    """An ONNX model with one input `images` and one output `logits`, both of any batch size."""
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch.onnx needs it and says so in many lines
    except ImportError as error:
        raise RequestError(f"ONNX files need the package {error.name}: {REQUIREMENTS}") from None
    with quiet():
        program = torch.onnx.export(
            exported_program(network), dynamo=True, input_names=["images"], output_names=["logits"], verbose=False
        )
    assert program is not None  # it is None for calls that write a file themselves
    model = program.model_proto
    for side in (model.graph.input[0], model.graph.output[0]):
        side.type.tensor_type.shape.dim[0].dim_param = "batch"
    graph = model.graph
    # Where each came from in the code: more than half of a small file.
    for part in (graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.helper.set_model_props(model, description.as_metadata())
    if model.ByteSize() > LARGEST_ONNX:
        raise RequestError("the network is larger than 2 GiB, which no ONNX file holds; choose --format pt2")
    return model.SerializeToString()


def pt2_of(network: DeployedNetwork, description: Description) -> bytes:
    """A program of torch.export, which `torch.export.load` reads without this repository."""
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(exported_program(network), buffer, extra_files=description.as_metadata())
    return buffer.getvalue()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters say of their own insides off the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")] + [
        logging.getLogger()
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


CONTENT = {"onnx": onnx_of, "pt2": pt2_of, "safetensors": safetensors_of}
