"""A network as it answers: with the heads that a method gave it, on inputs normalised as it was trained."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from dataset import DatasetEntry
from distiller_zoo import Method
from models import Features, FeatureShapes, Network


class Renormalise(nn.Module):
    """Images normalised with a data set's constants, as if they had been normalised with others. B×3×H×W."""

    def __init__(self, entry: DatasetEntry, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        as_map = lambda values: torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)  # noqa: E731
        self.register_buffer("scale", (as_map(entry.std) / as_map(std)).float())
        self.register_buffer("shift", ((as_map(entry.mean) - as_map(mean)) / as_map(std)).float())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class InferenceNetwork(nn.Module):
    """A network, the method whose heads it answers with, and its own normalisation; stands where a network stands.

    Args:
        renormalise: applied to the images first; None where they are normalised as the network expects.
    """

    def __init__(self, network: Network, method: Method | None = None, renormalise: Renormalise | None = None):
        super().__init__()
        self.network, self.method, self.renormalise = network, method, renormalise

    def features(self, x: Tensor) -> Features:
        """Features whose logits are those that the deployed network answers with."""
        if self.renormalise is not None:
            x = self.renormalise(x)
        features = self.network.features(x)
        if self.method is None:
            return features
        features = self.method.attach(features)
        return replace(features, logits=self.method.predict(features))

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).logits

    def predictions_by_head(self, x: Tensor) -> dict[str, Tensor]:
        """B×K logits by each way in which the network could answer, where its method knows several; by name."""
        if self.method is None:
            return {}
        if self.renormalise is not None:
            x = self.renormalise(x)
        return self.method.predictions_by_head(self.method.attach(self.network.features(x)))

    def feature_shapes(self) -> FeatureShapes:
        return self.network.feature_shapes()
