"""Weights files of this suite in the form of safetensors: the state dicts as tensors, the rest as metadata.

The network's tensors keep their names, so other tools read them; those of a method's heads begin with HEADS.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from common.errors import RequestError
from engine.checkpoints.exports.description import Description

if TYPE_CHECKING:
    from engine.checkpoints.exports.deployed import DeployedNetwork

KEY = "weights_file"  # of the header among the metadata
HEADS = "method."


def safetensors_of(network: "DeployedNetwork", description: Description) -> bytes:
    """The bytes of a safetensors file; `description.origin["header"]` has all that a weights file holds beside tensors.

    Raises:
        RequestError: the package safetensors is missing.
    """
    try:
        from safetensors.torch import save
    except ImportError:
        raise RequestError("safetensors files need the package safetensors: pip install safetensors") from None
    deployed = network.network
    tensors = dict(deployed.network.state_dict())
    if deployed.method is not None:
        tensors |= {f"{HEADS}{name}": value for name, value in deployed.method.state_dict().items()}
    metadata = description.as_metadata() | {KEY: json.dumps(description.origin["header"])}
    return save({name: value.contiguous() for name, value in tensors.items()}, metadata)


def content_of(tensors: dict[str, Tensor], metadata: dict[str, str]) -> dict[str, Any] | None:
    """The content of a weights file, as `torch.load` would give it; None for a safetensors file of another tool."""
    try:
        header = json.loads(metadata[KEY])
    except (KeyError, ValueError, RecursionError):
        return None
    if not isinstance(header, dict):
        return None
    heads = {name.removeprefix(HEADS): value for name, value in tensors.items() if name.startswith(HEADS)}
    model = {name: value for name, value in tensors.items() if not name.startswith(HEADS)}
    method = header.get("method")
    if isinstance(method, dict):
        header["method"] = method | {"state": heads}
    return header | {"model": model}


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}
