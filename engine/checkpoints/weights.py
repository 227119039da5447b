"""Networks to and from files: our own, RepDistiller's and pytorch-cifar-models'.

A file that we write holds `arch`, `num_classes`, `image_size`, `dataset` with its normalisation (`mean` and
`std`), `epoch`, accuracies, `model` (the state dict) and, where a method added heads to the network, `method`
with what is needed to rebuild them.
"""

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import RequestError, RunError
from common.files import sha256_of, write_bytes
from dataset import DatasetEntry
from distiller_zoo import Method, Pair, create_method
from engine.checkpoints.inference_network import InferenceNetwork, Renormalise
from engine.checkpoints.read_checkpoint import find_arch, find_state_dict, read_checkpoint
from models import FeatureShapes, Network, create_model
from models.published_checkpoints import find_published
from models.timm_models import Normalisation, published_normalisation


@dataclass(frozen=True)
class LoadedNetwork:
    """A network read from a file.

    Attributes:
        sha256: of the file.
        normalisation_override: mean and standard deviation, if timm:NAME.TAG gives others than the data set's and the
            file has none. One file is then two teachers.
    """

    arch: str
    network: InferenceNetwork
    sha256: str
    normalisation_override: Normalisation | None = None


@dataclass(frozen=True)
class Backbone:
    """Weights read from a file, to be kept below a new classifier.

    Attributes:
        image_size: of the images that it was trained on, where the file says so of this network.
    """

    arch: str
    path: Path
    sha256: str
    state: dict[str, Tensor]
    image_size: int | None


def save_weights(
    path: Path, network: Network, *, arch: str, entry: DatasetEntry, epoch: int, measured: dict[str, float],
    method: Method | None = None, pair: Pair | None = None, options: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write a weights file. The method's part is kept only where the deployed network needs it."""
    content = {
        "format": 1,
        "arch": arch,
        "num_classes": network.last_linear.out_features,
        "image_size": network.image_size,
        "dataset": entry.name,
        "mean": entry.mean,
        "std": entry.std,
        "epoch": epoch,
        **measured,
        "model": network.state_dict(),
        "method": None,
    }
    if method is not None and (method.attaches or method.changes_predictions):
        content["method"] = {
            "name": method.name,
            "options": dict(options or {}),
            "teachers": [asdict(shapes) for shapes in pair.teachers],
            "num_samples": pair.num_samples,
            "state": method.state_dict(),
        }
    write_torch(path, content)


def write_torch(path: Path, content: dict[str, Any], keep: Path | None = None) -> None:
    """`torch.save`, atomically. Serialised in memory first: on a full disk torch's writer hides the reason.

    Args:
        keep: a name under which the file that is replaced, if any, is kept.

    Raises:
        RunError: the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue(), keep)


def load_network(
    path: str | Path, entry: DatasetEntry, *, arch: str | None = None, allow_namespace: bool = False
) -> LoadedNetwork:
    """Build the network that a weights file holds, in evaluation mode on the CPU.

    Args:
        entry: the data set whose images it will be given. A network that was trained with another normalisation
            (its file says so, or is a published one that is known by its hash, or `arch` names timm's weights) gets
            them renormalised.
        arch: name of the network; needed only where neither the file nor its name says it. timm:NAME.TAG says that a
            file which this suite did not write holds those weights, or what was trained from them on.
        allow_namespace: accept a pickled argparse.Namespace beside the weights (RepDistiller's `*_last.pth`).

    Raises:
        RequestError: no such file, truncated, not weights, another network, or other classes.
    """
    path = Path(path)
    content = read_checkpoint(path, allow_namespace)
    state = find_state_dict(content, path)
    given, arch = arch, find_arch(arch, content, path)
    network = create_model(arch, entry.num_classes, entry.image_size)
    _load_strictly(network, state, arch, path)
    saved = content["method"] if _is_ours(content) else None
    method = _rebuild_method(saved, network, path) if saved else None
    digest = sha256_of(path)
    known, usual = _normalisation(content, digest), (entry.mean, entry.std)
    constants = known or published_normalisation(given) or usual
    renormalise = None if constants == usual else Renormalise(entry, *constants)
    override = constants if known is None and constants != usual else None
    return LoadedNetwork(
        arch, InferenceNetwork(network, method, renormalise).eval().requires_grad_(False), digest, override
    )


def read_backbone(path: Path, *, arch: str | None = None, allow_namespace: bool = False) -> Backbone:
    """The bare network's weights in a file, whatever its classes and whatever heads a method added to it.

    Args:
        arch, allow_namespace: as for `load_network`.

    Raises:
        RequestError: no such file, truncated, not weights, or of a network that nothing names.
    """
    content = read_checkpoint(path, allow_namespace)
    state = find_state_dict(content, path)
    arch = find_arch(arch, content, path)
    known = _is_ours(content) and content["arch"] == arch
    return Backbone(arch, path, sha256_of(path), state, content.get("image_size") if known else None)


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
    _load_strictly(network, state, backbone.arch, backbone.path)
    network.requires_grad_(False)
    network.last_linear.requires_grad_(True)


def _is_ours(content: dict[str, Any]) -> bool:
    return content.get("format") == 1 and content.keys() >= {"arch", "mean", "std", "model", "method"}


def _load_strictly(network: Network, state: dict[str, Tensor], arch: str, path: Path) -> None:
    own = network.state_dict()
    head = f"{network.classifier_name}.weight"
    if head in state and state[head].shape[1:] == own[head].shape[1:] and len(state[head]) != len(own[head]):
        raise RequestError(
            f"{path} was trained for {len(state[head])} classes, but the data set has {len(own[head])}; "
            f"choose its data set with --dataset"
        )
    state = {key: value for key, value in state.items() if key.rpartition(".")[2] not in network.constants}
    # Checkpoints of PyTorch 0.4.0 have no count of batches; nothing here reads it.
    lacking = {key for key in own.keys() - state.keys() if not key.endswith(".num_batches_tracked")}
    for problem, keys in (("lacks", lacking), ("has, unlike it,", state.keys() - own.keys())):
        if keys:
            raise RequestError(f"{path} does not hold a {arch}: it {problem} {min(keys)} ({len(keys)} such entries)")
    for key, value in state.items():
        if value.shape != own[key].shape:
            found, wanted = tuple(value.shape), tuple(own[key].shape)
            raise RequestError(f"{path} does not hold a {arch} for these images: {key} is {found}, not {wanted}")
    network.load_state_dict(state)


def _normalisation(content: dict[str, Any], digest: str) -> Normalisation | None:
    """Mean and standard deviation with which the network was trained, where the file is one that we wrote or know."""
    if _is_ours(content):
        return tuple(content["mean"]), tuple(content["std"])
    published = find_published(digest)
    return None if published is None or published.mean is None else (published.mean, published.std)


def _rebuild_method(saved: dict[str, Any], network: Network, path: Path) -> Method:
    try:
        teachers = tuple(FeatureShapes(**shapes) for shapes in saved["teachers"])
        pair = Pair(network.feature_shapes(), teachers, saved["num_samples"])
        method = create_method(saved["name"], pair, saved["options"])
        method.load_state_dict(saved["state"])
    except RunError as error:  # the method's file may have changed since, or is broken
        raise RequestError(f"{path} holds heads of a method, and {error}") from error
    except (KeyError, TypeError, AttributeError, RuntimeError):
        raise RequestError(f"{path} holds heads of a method that do not fit; save it again with this suite") from None
    return method
