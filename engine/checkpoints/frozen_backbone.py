"""Weights that are kept and frozen below a new classifier."""

from engine.checkpoints.start_weights import StartWeights, load_below_classifier
from models import Network


def load_backbone(network: Network, backbone: StartWeights) -> None:
    """Give a network all weights of a file and freeze them; its last linear layer stays new and trainable.

    Raises:
        RequestError: the weights are of another network, or of one that fits its own image size only.
    """
    load_below_classifier(network, backbone)
    network.requires_grad_(False)
    network.last_linear.requires_grad_(True)
