"""Networks to and from files: our own, and those of other tools.

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
from common.messages import counted
from common.seeds import isolated_seed
from dataset import DatasetEntry
from distiller_zoo import Method, Pair, create_method
from engine.checkpoints.class_names import recorded_classes
from engine.checkpoints.file_kinds import is_safetensors
from engine.checkpoints.find_weights import ONLY_WEIGHTS, FoundWeights, WeightsChoice, find_weights
from engine.checkpoints.inference_network import InferenceNetwork, Renormalise
from engine.checkpoints.parts_of_file import Wanted
from engine.checkpoints.read_checkpoint import is_own_file, read_content
from engine.checkpoints.tensor_checks import check_finite, check_kinds, is_plain, not_finite
from engine.checkpoints.which_network import find_arch, fitting_networks
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
        normalisation: mean and standard deviation of the images that the network expects; None for the data set's.
    """

    arch: str
    entry: DatasetEntry
    epoch: int
    measured: dict[str, float]
    trained: TrainedMethod | None = None
    normalisation: Normalisation | None = None


@dataclass(frozen=True)
class LoadedNetwork:
    """A network read from a file.

    Attributes:
        sha256: of the file.
        normalisation_override: mean and standard deviation of the images that the network expects, if timm:NAME.TAG
            gives others than the data set's and the file has none. One file is then two teachers.
        weights_key: where in the file the weights were, if the user chose them and they are not what it gives without
            a choice. One file is then several teachers.
        note: one line on what was done beyond reading a plain state dict; "" if nothing.
        classes: names of the classes that it was trained on; empty if they are unknown.
        num_classes: of the file's classifier; 0 if the file has none, and the network a random one.
        dataset: name of the data set that it was trained on; None if the file does not say.
    """

    arch: str
    network: InferenceNetwork
    sha256: str
    normalisation_override: Normalisation | None = None
    weights_key: str | None = None
    note: str = ""
    classes: tuple[str, ...] = ()
    num_classes: int = 0
    dataset: str | None = None


@dataclass(frozen=True)
class ForeignWeights:
    """The content of a weights file of any tool, read without running code.

    Attributes:
        content: as it is in the file.
        dataset: name of the data set that it was trained on; None if the file does not say.
        form: what the file is, if its name says otherwise; "" if not.
    """

    path: Path
    content: Any
    dataset: str | None
    form: str = ""

    def note_on(self, found: FoundWeights) -> str:
        """One line on what was done beyond reading a plain state dict; "" if nothing."""
        notes = ", ".join(filter(None, (self.form, found.note)))
        return f"{self.path.name}: {notes}" if notes else ""

    def of(self, network: Network, choice: WeightsChoice, with_classifier: bool = True) -> FoundWeights:
        """Weights for a network (see `find_weights`).

        Args:
            with_classifier: whether the last linear layer must be there.

        Raises:
            RequestError: there are none, several fit, or the chosen ones are missing.
        """
        if is_own_file(self.content):
            return _own_weights(self.content, self.path, choice)
        if choice.key is None and isinstance(self.content, dict):
            _refuse_unfinished(self.content, self.path)
        return find_weights(self.content, self.path, Wanted.by(network, with_classifier), choice)


def read_weights(path: Path, allow_namespace: bool = False) -> ForeignWeights:
    """Read a file of weights, of this suite or another tool.

    Args:
        allow_namespace: accept a pickled argparse.Namespace beside the weights (RepDistiller's `*_last.pth`).

    Raises:
        RequestError: the file is missing or damaged, or is no checkpoint.
    """
    content = read_content(path, allow_namespace)
    dataset = content["dataset"] if is_own_file(content) and isinstance(content.get("dataset"), str) else None
    renamed = path.suffix != ".safetensors" and is_safetensors(path)
    return ForeignWeights(path, content, dataset, "a safetensors file" if renamed else "")


def _own_weights(content: dict[str, Any], path: Path, choice: WeightsChoice) -> FoundWeights:
    if choice.averaged:
        raise RequestError(f"{path} is a file of this suite and holds no averaged weights; leave --ema out")
    if choice.key not in (None, "model"):
        raise RequestError(f"{path} is a file of this suite, with one network in it; leave {choice.key_flag} out")
    state = content["model"]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise RequestError(f"{path} has no state dict under 'model'; save it again with this suite")
    return FoundWeights({str(name): value for name, value in state.items()})


def _refuse_unfinished(content: dict[str, Any], path: Path) -> None:
    if {"run_id", "student", "optimizer"} <= content.keys():
        raise RequestError(
            f"{path} is the state of an unfinished run; take the weights of its best epoch, *_best.pth in its folder, "
            f"or finish it by its own command"
        )


def save_weights(path: Path, network: Network, header: WeightsHeader) -> None:
    """Write a weights file.

    Raises:
        RunError: the file cannot be written.
    """
    mean, std = header.normalisation or (header.entry.mean, header.entry.std)
    content = {
        "format": 1,
        "arch": header.arch,
        "num_classes": network.last_linear.out_features,
        "image_size": network.image_size,
        "dataset": header.entry.name,
        "mean": mean,
        "std": std,
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
    path: str | Path,
    entry: DatasetEntry,
    *,
    arch: str | None = None,
    allow_namespace: bool = False,
    choice: WeightsChoice = ONLY_WEIGHTS,
    any_classes: bool = False,
) -> LoadedNetwork:
    """Build the network that a weights file holds, in evaluation mode on the CPU.

    Args:
        entry: the data set whose images it is given. They are renormalised for a network that was trained with another
            normalisation: its file has one, or is a published file known by its hash, or `arch` names timm's weights.
        arch: name of the network; needed only if neither the file nor its name gives it. timm:NAME.TAG means that a
            file from elsewhere holds those weights, or weights that were trained from them.
        allow_namespace: accept a pickled argparse.Namespace beside the weights (RepDistiller's `*_last.pth`).
        choice: which weights, if the file has several.
        any_classes: accept a classifier for another number of classes than the data set's, and a file without one.

    Raises:
        RequestError: the file is missing or truncated, or holds no weights, another network, or other classes; or
            weights that are not finite.
    """
    file = read_weights(Path(path), allow_namespace)
    return build_network(file, entry, arch=arch, choice=choice, any_classes=any_classes)


def build_network(
    file: ForeignWeights,
    entry: DatasetEntry,
    *,
    arch: str | None = None,
    choice: WeightsChoice = ONLY_WEIGHTS,
    any_classes: bool = False,
) -> LoadedNetwork:
    """Build the network that a file which was read holds (see `load_network`)."""
    path, content = file.path, file.content
    name = find_arch(arch, content, path, choice.model_flag, entry.image_size)
    _recorded_normalisation(content, path)  # raises before the network is built
    network, num_classes = create_model(name, entry.num_classes, entry.image_size), entry.num_classes
    found = file.of(network, choice)
    try:
        load_strictly(network, found.state, name, path)
    except RequestError as refusal:
        other = _for_other_classes(file, network, name, choice) if any_classes else None
        if other is None:
            raise _with_advice(refusal, file, network, found, choice) from None
        network, found, num_classes = other
    saved = content["method"] if is_own_file(content) else None
    method = _rebuild_method(saved, network, path) if saved else None
    digest, usual = sha256_of(path), (entry.mean, entry.std)
    known, of_name = normalisation_of(file, arch, digest)
    needed = known or usual
    renormalise = None if needed == usual else Renormalise(entry, *needed)
    deployed = InferenceNetwork(network, method, renormalise).eval().requires_grad_(False)
    override = needed if of_name and needed != usual else None
    note, classes = file.note_on(found), recorded_classes(content)
    return LoadedNetwork(name, deployed, digest, override, found.key, note, classes, num_classes, file.dataset)


def _for_other_classes(
    file: ForeignWeights, network: Network, arch: str, choice: WeightsChoice
) -> tuple[Network, FoundWeights, int] | None:
    """The network with the classifier of the file, the weights, and its number of classes; None if it is no such file.

    A file without a classifier of this network, or with another head in its place, counts as one of 0 classes. The
    network then has a random classifier of one class.
    """
    own = {key: value for key, value in network.state_dict().items() if network.of_classifiers(key)}
    try:
        found = file.of(network, choice, with_classifier=False)
    except RequestError:
        return None
    of_head = {key: value for key, value in found.state.items() if network.of_classifiers(key)}
    fits = all(key in of_head and of_head[key].shape[1:] == value.shape[1:] for key, value in own.items())
    num_classes = len(of_head[f"{network.classifier_name}.weight"]) if fits else 0
    with isolated_seed(0):
        other = create_model(arch, num_classes or 1, network.image_size)
    state = found.state
    if not num_classes:
        state = {key: value for key, value in state.items() if key not in of_head}
        state |= {key: value for key, value in other.state_dict().items() if other.of_classifiers(key)}
    try:
        load_strictly(other, state, arch, file.path)
    except RequestError:
        return None
    return other, found, num_classes


def _with_advice(
    refusal: RequestError, file: ForeignWeights, network: Network, found: FoundWeights, choice: WeightsChoice
) -> RequestError:
    """A refusal of a network's weights with what else the file has, or the networks that they fit."""
    text = str(refusal)
    if "\n" in text or ";" in text:  # it has its advice
        return refusal
    if fitting := fitting_networks(file.content, network.image_size):
        return RequestError(f"{text};\nthe file fits {choice.model_flag} {' or '.join(fitting)}")
    if found.others:
        return RequestError(f"{text};\nthere are {found.others}: choose with {choice.key_flag} KEY")
    return RequestError(f"{text};\nthe file fits no network here")


def load_strictly(network: Network, state: dict[str, Tensor], arch: str, path: Path) -> None:
    """Load a state dict that must have the network's keys and shapes.

    Args:
        arch, path: name of the network and origin of the weights, for messages.

    Raises:
        RequestError: the weights are of another network or for other classes.
    """
    own = network.state_dict()
    check_kinds(state, own, path)
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
            number = counted(len(keys), "such key")
            raise RequestError(f"{path} does not hold a {arch}: {problem} {min(keys)} ({number})")
    for key, value in state.items():
        if value.shape != own[key].shape:
            found, wanted = tuple(value.shape), tuple(own[key].shape)
            raise RequestError(f"{path} does not hold a {arch} for these images: {key} is {found}, not {wanted}")
    as_built = not_finite(own)  # masks, for example
    network.load_state_dict(state)
    check_finite({key: value for key, value in network.state_dict().items() if key not in as_built}, path)


def normalisation_of(file: ForeignWeights, arch: str | None, digest: str) -> tuple[Normalisation | None, bool]:
    """Mean and standard deviation of the images that the network in a file was trained on, and where they come from.

    Args:
        arch: name of the network as the user gave it: timm:NAME.TAG names weights whose normalisation timm publishes.
        digest: SHA-256 of the file.

    Returns:
        The constants, None if they are unknown; and whether only the name gives them.

    Raises:
        RequestError: the file is our own and has something else in their places.
    """
    recorded = _recorded_normalisation(file.content, file.path) or _published_normalisation(digest)
    if recorded is not None:
        return recorded, False
    return published_normalisation(arch), True


def _recorded_normalisation(content: Any, path: Path) -> Normalisation | None:
    """Mean and standard deviation of the network's training, if the file is our own.

    Raises:
        RequestError: the file has something else in their places.
    """
    if not is_own_file(content):
        return None
    mean, std = (_three_numbers(content[name], name, path) for name in ("mean", "std"))
    if min(std) <= 0:
        raise RequestError(f"{path} has the std {std}, and each must be above 0; save it again with this suite")
    return mean, std


def _three_numbers(value: Any, name: str, path: Path) -> tuple[float, ...]:
    if isinstance(value, Tensor) and is_plain(value) and value.numel() == 3:
        value = value.flatten().tolist()
    numbers = isinstance(value, list | tuple) and all(type(number) in (int, float) for number in value)
    if not (numbers and len(value) == 3 and all(map(_is_finite, value))):
        raise RequestError(
            f"{path} has a {name} that is not three finite numbers, one for each channel; save it again with this suite"
        )
    return tuple(value)


def _is_finite(number: float) -> bool:  # math.isfinite fails for integers beyond the range of floats
    return abs(number) < 1e30


def _published_normalisation(digest: str) -> Normalisation | None:
    """Mean and standard deviation of the network's training, if the file is a published one."""
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
