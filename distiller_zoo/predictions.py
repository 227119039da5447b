"""Helpers of losses on predictions: standardised logits, divergences, other classes, classifiers, warm-up."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from models import Features, Network

EPS = 1e-7


def standardised(logits: Tensor) -> Tensor:
    """Logits ...×K with mean 0 and standard deviation 1 in each row.

    Logit standardization (Sun, Ren, Li, Wang, Cao, CVPR 2024, arXiv:2403.01427): the student need not match the
    teacher's shift and scale. It comes before the temperature, for any loss on logits.
    """
    centred, scale = logits - logits.mean(dim=-1, keepdim=True), logits.std(dim=-1, keepdim=True)
    # Classifiers of MLPs start at zero: divided by EPS, the first gradient would be ten million times too large.
    return centred / torch.where(scale > 0, scale + EPS, 1.0)


def with_standardised_logits(features: Features) -> Features:
    """Features whose logits are standardised (see `standardised`); those of heads are not."""
    return replace(features, logits=standardised(features.logits))


def kl_of_each(log_s: Tensor, log_t: Tensor) -> Tensor:
    """KL(teacher ‖ student) of each sample in nats (...), from log-probabilities ...×K of both."""
    return F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(dim=-1)


def other_classes(values: Tensor, labels: Tensor) -> Tensor:
    """B×(K−1): the rows of B×K values without the entry of each sample's label (B)."""
    columns = torch.arange(values.shape[1] - 1, device=values.device)
    return values.gather(1, columns + (columns >= labels[:, None]))


def class_against_rest(logits: Tensor, classes: Tensor) -> Tensor:
    """B×2 log-probabilities of one class of each sample (`classes`, B) and of all others together; logits B×K."""
    one = logits.gather(1, classes[:, None])
    rest = other_classes(logits, classes).logsumexp(dim=1, keepdim=True)
    return torch.cat([one, rest], dim=1).log_softmax(dim=1)


def warm_up(epoch: int, epochs: int) -> float:
    """Factor of a loss that grows linearly to 1 over the first `epochs`; 1 if these are 0. `epoch` counts from 1."""
    return min(epoch / epochs, 1.0) if epochs else 1.0


def classifier_of(network: Network, channels: int, method: str) -> nn.Linear:
    """The last linear layer of a network, to be applied to each position of its last map.

    Args:
        channels: of that map.
        method: the name of the method that asks, for the message.

    Raises:
        RequestError: the layer reads something else than the map's channels.
    """
    layer = network.last_linear
    if layer.in_features != channels:
        raise RequestError(
            f"{method} applies the classifier to the last map, and that of {type(network).__name__} has {channels} "
            f"channels where its classifier reads {layer.in_features}; choose another model"
        )
    return layer
