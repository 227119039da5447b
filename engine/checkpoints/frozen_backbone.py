"""Weights that are kept and frozen below a new classifier: read from any weights file, given to a network."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from common.errors import RequestError
from common.files import sha256_of
from common.seeds import isolated_seed
from engine.checkpoints.find_weights import ONLY_WEIGHTS, WeightsChoice
from engine.checkpoints.read_checkpoint import is_own_file
from engine.checkpoints.weights import load_strictly, read_weights
from engine.checkpoints.which_network import find_arch
from models import Network, create_model


@dataclass(frozen=True)
class Backbone:
    """Weights read from a file, to be kept below a new classifier.

    Attributes:
        image_size: of the images that it was trained on, if the file gives it for this network.
        weights_key, note: as in `LoadedNetwork`.
    """

    arch: str
    path: Path
    sha256: str
    state: dict[str, Tensor]
    image_size: int | None
    weights_key: str | None = None
    note: str = ""


def read_backbone(
    path: Path,
    *,
    image_size: int = 32,
    arch: str | None = None,
    allow_namespace: bool = False,
    choice: WeightsChoice = ONLY_WEIGHTS,
) -> Backbone:
    """Read the bare network's weights from a file, for any number of classes and without the heads of a method.

    Args:
        image_size: of the images that it is given.
        arch, allow_namespace, choice: as for `load_network`.

    Raises:
        RequestError: the file is missing or truncated, holds no weights, or does not name its network.
    """
    file = read_weights(path, allow_namespace)
    content = file.content
    arch = find_arch(arch, content, path, choice.model_flag, image_size)
    with isolated_seed(0):
        network = create_model(arch, image_size=image_size)
    found = file.of(network, choice, with_classifier=False)
    size = content.get("image_size") if is_own_file(content) and content["arch"] == arch else None
    size = size if isinstance(size, int) else None
    return Backbone(arch, path, sha256_of(path), found.state, size, found.key, file.note_on(found))


def load_backbone(network: Network, backbone: Backbone) -> None:
    """Give a network all weights of a backbone and freeze them; its last linear layer stays new and trainable.

    Raises:
        RequestError: the weights are of another network, or of one that fits its own image size only.
    """
    head, own = f"{network.classifier_name}.", network.state_dict()
    state = {key: value for key, value in backbone.state.items() if not key.startswith(head)}
    size, wanted = backbone.image_size, network.image_size
    if size not in (None, wanted) and any(key in own and value.shape != own[key].shape for key, value in state.items()):
        raise RequestError(
            f"{backbone.path} holds a {backbone.arch} for images of {size}×{size}, whose layers do not fit the "
            f"{wanted}×{wanted} of this data set;\ntake a convolutional network, or one trained on {wanted}×{wanted}"
        )
    state |= {key: value for key, value in own.items() if key.startswith(head)}
    load_strictly(network, state, backbone.arch, backbone.path)
    network.requires_grad_(False)
    network.last_linear.requires_grad_(True)
