"""The weights that --init names: a file, a run's folder, or those that timm publishes."""

from dataclasses import replace
from pathlib import Path

from common.command import say
from dataset import DatasetEntry
from engine.checkpoints.find_weights import WeightsChoice
from engine.checkpoints.pretrained import published_weights
from engine.checkpoints.run_weights import weights_file
from engine.checkpoints.start_weights import StartWeights, read_start_weights
from engine.protocol.plan import InitialWeights

PRETRAINED = "pretrained"


def read_initial_weights(
    word: str, model: str | None, entry: DatasetEntry, flag: str, choice: WeightsChoice, allow_namespace: bool = False
) -> StartWeights:
    """Read the weights that a network starts from; prints what was done beyond reading a plain state dict.

    Args:
        word: "pretrained", or the path of a file or a run's folder.
        model: name of the network, as the user gave it; None if the file has it.
        flag: that has the word, for messages.
        choice, allow_namespace: as for `load_network`.

    Raises:
        RequestError: the file is missing, damaged or of no known network, or timm's weights cannot be fetched.
    """
    if word == PRETRAINED:
        path, model = published_weights(model or "the default one", flag)
    else:
        path = weights_file(Path(word), flag)
    weights = read_start_weights(
        path, image_size=entry.image_size, arch=model, allow_namespace=allow_namespace, choice=choice
    )
    if weights.note:
        say(weights.note)
    return replace(weights, name=(model or "").partition(":")[2]) if word == PRETRAINED else weights


def initial_weights(weights: StartWeights, entry: DatasetEntry) -> InitialWeights:
    """Describe weights that a network starts from, for a plan."""
    other = weights.normalisation not in (None, (entry.mean, entry.std))
    return InitialWeights(
        weights.arch,
        weights.path,
        weights.sha256,
        weights.name,
        normalisation=weights.normalisation if other else None,
        named_normalisation=other and weights.named_normalisation,
        weights_key=weights.weights_key,
    )
