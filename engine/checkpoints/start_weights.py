"""Weights that a network starts from, read from any weights file: all of them, or those below a new classifier."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from common.errors import RequestError
from common.files import sha256_of
from common.seeds import isolated_seed
from dataset import DatasetEntry
from engine.checkpoints.class_names import recorded_classes
from engine.checkpoints.find_weights import ONLY_WEIGHTS, WeightsChoice
from engine.checkpoints.read_checkpoint import is_own_file
from engine.checkpoints.weights import load_strictly, normalisation_of, read_weights
from engine.checkpoints.which_network import find_arch, fitting_networks
from models import Network, create_model
from models.timm_models import Normalisation


@dataclass(frozen=True)
class StartWeights:
    """Weights read from a file, for a network with a classifier of its own.

    Attributes:
        image_size: of the images that it was trained on, if the file gives it for this network.
        weights_key, note: as in `LoadedNetwork`.
        classes: names of the classes that it was trained on; empty if they are unknown.
        dataset: name of the data set that it was trained on; None if it is unknown.
        normalisation: mean and standard deviation of the images that it was trained on; None if they are unknown.
        named_normalisation: whether the name of the network gives it, and not the file.
        name: what tables call it: the name of the file, or of published weights.
    """

    arch: str
    path: Path
    sha256: str
    state: dict[str, Tensor]
    image_size: int | None
    weights_key: str | None = None
    note: str = ""
    classes: tuple[str, ...] = ()
    dataset: str | None = None
    normalisation: Normalisation | None = None
    named_normalisation: bool = False
    name: str = ""


def read_start_weights(
    path: Path,
    *,
    image_size: int = 32,
    arch: str | None = None,
    allow_namespace: bool = False,
    choice: WeightsChoice = ONLY_WEIGHTS,
) -> StartWeights:
    """Read the bare network's weights from a file, for any number of classes and without the heads of a method.

    Args:
        image_size: of the images that it is given.
        arch, allow_namespace, choice: as for `load_network`.

    Raises:
        RequestError: the file is missing or truncated, holds no weights, or does not name its network.
    """
    file = read_weights(path, allow_namespace)
    content = file.content
    name = find_arch(arch, content, path, choice.model_flag, image_size)
    with isolated_seed(0):
        network = create_model(name, image_size=image_size)
    found = file.of(network, choice, with_classifier=False)
    size = content.get("image_size") if is_own_file(content) and content["arch"] == name else None
    size, digest = size if isinstance(size, int) else None, sha256_of(path)
    normalisation, of_name = normalisation_of(file, arch, digest)
    return StartWeights(
        arch=name,
        path=path,
        sha256=digest,
        state=found.state,
        image_size=size,
        weights_key=found.key,
        note=file.note_on(found),
        classes=recorded_classes(content),
        dataset=file.dataset,
        normalisation=normalisation,
        named_normalisation=of_name,
        name=path.stem,
    )


def load_start_weights(network: Network, weights: StartWeights, entry: DatasetEntry) -> bool:
    """Give a network the weights of a file; its classifier stays new where the classes are not those of the file.

    Returns:
        True if the file's classifier was taken: it has the data set's number of classes, and the names of the two are
        the same. Where they are unknown, the file must be of the same or an unknown data set.

    Raises:
        RequestError: the weights are of another network, or of one that fits its own image size only.
    """
    heads = {key: value for key, value in network.state_dict().items() if network.of_classifiers(key)}
    fits = all(key in weights.state and weights.state[key].shape == value.shape for key, value in heads.items())
    if weights.classes and entry.classes:
        same = fits and weights.classes == entry.classes
    else:
        same = fits and weights.dataset in (None, entry.name)
    load_below_classifier(network, weights, with_classifier=same)
    return same


def load_below_classifier(network: Network, weights: StartWeights, with_classifier: bool = False) -> None:
    """Give a network all weights of a file but for those of the layers that give logits.

    Args:
        with_classifier: give it those too.

    Raises:
        RequestError: the weights are of another network, or of one that fits its own image size only.
    """
    own = network.state_dict()
    kept = {} if with_classifier else {key: value for key, value in own.items() if network.of_classifiers(key)}
    given = {key: value for key, value in weights.state.items() if with_classifier or not network.of_classifiers(key)}
    state = network.adapted(given)
    size, wanted = weights.image_size, network.image_size
    if size not in (None, wanted) and any(key in own and value.shape != own[key].shape for key, value in state.items()):
        raise RequestError(
            f"{weights.path} holds a {weights.arch} for images of {size}×{size}, whose layers do not fit the "
            f"{wanted}×{wanted} of this data set;\ntake a convolutional network, or one trained on {wanted}×{wanted}"
        )
    try:
        load_strictly(network, state | kept, weights.arch, weights.path)
    except RequestError as refusal:
        text = str(refusal)
        if "\n" in text or ";" in text:  # it has its advice
            raise
        fitting = " or ".join(fitting_networks(weights.state, wanted))
        advice = f"it fits {fitting}" if fitting else f"take weights of a {weights.arch}"
        raise RequestError(f"{text};\n{advice}") from None
