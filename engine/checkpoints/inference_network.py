"""A network as it predicts: with the heads that a method gave it, on inputs normalised as it was trained."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from dataset import DatasetEntry
from distiller_zoo import Method
from models import Features, FeatureShapes, Network


class Renormalise(nn.Module):
    """Turns images normalised with a data set's constants into images normalised with other constants.

    Args:
        entry: the data set that the images are normalised for.
        mean, std: the constants of the result, per channel, of pixels in 0..1.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, entry: DatasetEntry, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        given_mean, given_std, mean_, std_ = map(_per_channel, (entry.mean, entry.std, mean, std))
        self.register_buffer("scale", (given_std / std_).float())
        self.register_buffer("shift", ((given_mean - mean_) / std_).float())

    def forward(self, x: Tensor) -> Tensor:
        """B×3×H×W to B×3×H×W."""
        return x * self.scale + self.shift


class InferenceNetwork(nn.Module):
    """A network, the method that it predicts with, and its own normalisation; can take the place of a `Network`.

    Args:
        method: the method whose heads give the predictions; None for the network's own classifier.
        renormalise: applied to the images first; None if they are normalised as the network expects.
    """

    def __init__(self, network: Network, method: Method | None = None, renormalise: Renormalise | None = None):
        super().__init__()
        self.network, self.method, self.renormalise = network, method, renormalise

    def features(self, x: Tensor) -> Features:
        """Features of B×3×H×W images; their logits are the predictions of the deployed network."""
        features = self.network.features(self._normalised(x))
        if self.method is None:
            return features
        features = self.method.attach(features)
        return replace(features, logits=self.method.predict(features))

    def forward(self, x: Tensor) -> Tensor:
        """B×3×H×W images to B×K logits."""
        return self.features(x).logits

    def predictions_by_head(self, x: Tensor) -> dict[str, Tensor]:
        """B×K logits by each of the ways in which a method with several heads can predict; by name."""
        if self.method is None:
            return {}
        return self.method.predictions_by_head(self.method.attach(self.network.features(self._normalised(x))))

    @property
    def image_size(self) -> int:
        """Height and width of the images that the network was built for."""
        return self.network.image_size

    def feature_shapes(self) -> FeatureShapes:
        """Shapes of the network's features."""
        return self.network.feature_shapes()

    def _normalised(self, x: Tensor) -> Tensor:
        return x if self.renormalise is None else self.renormalise(x)


def _per_channel(values: tuple[float, ...]) -> Tensor:
    """float64 1×3×1×1."""
    return torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)
