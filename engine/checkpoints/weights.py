"""Networks to and from files: our own, RepDistiller's and pytorch-cifar-models'.

A file that we write holds `arch`, `num_classes`, `image_size`, `dataset` with its normalisation (`mean` and `std`),
`epoch`, accuracies, `model` (the state dict) and, where a method added heads to the network, `method` with all that is
needed to build them again.
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
from engine.checkpoints.read_checkpoint import find_arch, find_state_dict, is_own_file, read_checkpoint
from models import FeatureShapes, Network, create_model
from models.published_checkpoints import find_published
from models.timm_models import Normalisation, published_normalisation


@dataclass(frozen=True)
class TrainedMethod:
    """A method, and all that is needed to build it again."""

    method: Method
    pair: Pair
    options: dict[str, Any]


@dataclass(frozen=True)
class WeightsHeader:
    """The entries of a weights file beside the weights.

    Attributes:
        arch: the network's registered name.
        entry: the data set that it was trained on.
        epoch: the number of epochs of training.
        measured: accuracies and loss on the test set, by name.
        trained: the method that it was trained by; its heads are kept if the deployed network predicts with them.
    """

    arch: str
    entry: DatasetEntry
    epoch: int
    measured: dict[str, float]
    trained: TrainedMethod | None = None


@dataclass(frozen=True)
class LoadedNetwork:
    """A network read from a file.

    Attributes:
        sha256: of the file.
        normalisation_override: mean and standard deviation of the images that the network expects, if timm:NAME.TAG
            gives others than the data set's and the file has none. One file is then two teachers.
    """

    arch: str
    network: InferenceNetwork
    sha256: str
    normalisation_override: Normalisation | None = None


def save_weights(path: Path, network: Network, header: WeightsHeader) -> None:
    """Write a weights file.

    Raises:
        RunError: the file cannot be written.
    """
    content = {
        "format": 1,
        "arch": header.arch,
        "num_classes": network.last_linear.out_features,
        "image_size": network.image_size,
        "dataset": header.entry.name,
        "mean": header.entry.mean,
        "std": header.entry.std,
        "classes": header.entry.classes,
        "framing": header.entry.framing,
        "epoch": header.epoch,
        **header.measured,
        "model": network.state_dict(),
        "method": None if header.trained is None else _method_entry(header.trained),
    }
    write_torch(path, content)


def _method_entry(trained: TrainedMethod) -> dict[str, Any] | None:
    method = trained.method
    if not (method.attaches or method.changes_predictions):
        return None
    return {
        "name": method.name,
        "options": dict(trained.options),
        "teachers": [asdict(shapes) for shapes in trained.pair.teachers],
        "num_samples": trained.pair.num_samples,
        "state": method.state_dict(),
    }


def write_torch(path: Path, content: dict[str, Any], keep: Path | None = None) -> None:
    """`torch.save`, atomically. Serialised in memory first: on a full disk torch's writer hides the reason.

    Args:
        keep: path under which the file that is replaced, if any, is kept.

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
        entry: the data set whose images it is given. They are renormalised for a network that was trained with another
            normalisation: its file has one, or is a published file known by its hash, or `arch` names timm's weights.
        arch: name of the network; needed only if neither the file nor its name gives it. timm:NAME.TAG means that a
            file from elsewhere holds those weights, or weights that were trained from them.
        allow_namespace: accept a pickled argparse.Namespace beside the weights (RepDistiller's `*_last.pth`).

    Raises:
        RequestError: the file is missing or truncated, or holds no weights, another network, or other classes.
    """
    path = Path(path)
    content = read_checkpoint(path, allow_namespace)
    state = find_state_dict(content, path)
    name = find_arch(arch, content, path)
    network = create_model(name, entry.num_classes, entry.image_size)
    load_strictly(network, state, name, path)
    saved = content["method"] if is_own_file(content) else None
    method = _rebuild_method(saved, network, path) if saved else None
    digest = sha256_of(path)
    recorded, usual = _recorded_normalisation(content, digest), (entry.mean, entry.std)
    needed = recorded or published_normalisation(arch) or usual
    renormalise = None if needed == usual else Renormalise(entry, *needed)
    deployed = InferenceNetwork(network, method, renormalise).eval().requires_grad_(False)
    override = needed if recorded is None and needed != usual else None
    return LoadedNetwork(name, deployed, digest, override)


def load_strictly(network: Network, state: dict[str, Tensor], arch: str, path: Path) -> None:
    """Load a state dict that must have the network's keys and shapes.

    Args:
        arch, path: name of the network and origin of the weights, for messages.

    Raises:
        RequestError: the weights are of another network or for other classes.
    """
    own = network.state_dict()
    head = f"{network.classifier_name}.weight"
    if head in state and state[head].shape[1:] == own[head].shape[1:] and len(state[head]) != len(own[head]):
        raise RequestError(
            f"{path} was trained for {len(state[head])} classes, but the data set has {len(own[head])}; "
            f"choose its data set with --dataset"
        )
    state = {key: value for key, value in state.items() if key.rpartition(".")[2] not in network.constants}
    # Checkpoints of PyTorch 0.4.0 have no count of batches; nothing here reads it.
    missing = {key for key in own.keys() - state.keys() if not key.endswith(".num_batches_tracked")}
    for problem, keys in (("missing", missing), ("unexpected", state.keys() - own.keys())):
        if keys:
            raise RequestError(f"{path} does not hold a {arch}: {problem} {min(keys)} ({len(keys)} such keys)")
    for key, value in state.items():
        if value.shape != own[key].shape:
            found, wanted = tuple(value.shape), tuple(own[key].shape)
            raise RequestError(f"{path} does not hold a {arch} for these images: {key} is {found}, not {wanted}")
    network.load_state_dict(state)


def _recorded_normalisation(content: dict[str, Any], digest: str) -> Normalisation | None:
    """Mean and standard deviation of the network's training, if the file is our own or a published one."""
    if is_own_file(content):
        return tuple(content["mean"]), tuple(content["std"])
    published = find_published(digest)
    if published is None or published.mean is None or published.std is None:
        return None
    return published.mean, published.std


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
