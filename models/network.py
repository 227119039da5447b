"""The base class of all networks, each of which writes one method, `features(x)`."""

import torch
from torch import Tensor, nn

from models.contract import check_features
from models.depth import depths_by_module
from models.features import Features, FeatureShapes


def batch_norms(*layers: object) -> tuple[nn.BatchNorm2d, ...]:
    """The layers that are batch norms, in order: layers of a submodule have no type of their own."""
    return tuple(layer for layer in layers if isinstance(layer, nn.BatchNorm2d))


def count_parameters(module: nn.Module) -> int:
    """Number of scalars in all parameters of a module, trained or frozen."""
    return sum(parameter.numel() for parameter in module.parameters())


class Network(nn.Module):
    """A classifier of B×3×H×W images that can show its inner features.

    Attributes:
        classifier_name: name of the last linear layer in the state dict; its input is the embedding.
        further_classifiers: names of other layers that give logits, such as the head of a distillation token.
        constants: last parts of keys that the authors' checkpoints hold beside the weights and nothing here reads,
            since the code computes them.
        image_size: height and width of the images that it was built for; every constructor sets it.
        norm_follows_last_stage: whether the last of `stage_norms` lies behind the last stage, between `stages[-1]` and
            `preacts[-1]`, as in networks that normalise before they convolve.
    """

    classifier_name = "fc"
    further_classifiers: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    image_size: int
    norm_follows_last_stage = False

    def features(self, x: Tensor) -> Features:
        """Features of B×3×H×W images in one forward pass; costs no more than `forward`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """B×3×H×W images to B×K logits."""
        return self.features(x).logits

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state dict trained for images of another size, in the shapes of this network.

        Entries for which there is no known way stay as they are.
        """
        return state

    def classifiers(self) -> tuple[nn.Module, ...]:
        """The layers that give logits: the last linear one first."""
        return (self.last_linear, *map(self.get_submodule, self.further_classifiers))

    def of_classifiers(self, key: str) -> bool:
        """True for a name in the state dict that belongs to one of the layers that give logits."""
        return key.startswith(tuple(f"{name}." for name in (self.classifier_name, *self.further_classifiers)))

    def parameter_depths(self) -> dict[str, int]:
        """The layer of each parameter by its name: 0 at the images, the largest for the classifier."""
        return depths_by_module(self)

    @property
    def last_linear(self) -> nn.Linear:
        """The layer that turns the embedding into logits.

        Raises:
            AttributeError, TypeError: `classifier_name` names no layer, or another kind of layer.
        """
        layer = self.get_submodule(self.classifier_name)
        if not isinstance(layer, nn.Linear):
            raise TypeError(f"{self.classifier_name} is a {type(layer).__name__}, not a linear layer")
        return layer

    def stage_norms(self) -> tuple[nn.BatchNorm2d, ...] | None:
        """The batch norm before the last ReLU of each stage, one for each of `Features.preacts`.

        Its bias and weight are the mean and standard deviation of the values that the ReLU reads (of a residual
        network: without those of the shortcut). None if the stages end otherwise.
        """
        return None

    @torch.no_grad()
    def feature_shapes(self) -> FeatureShapes:
        """Find the shapes of all features by one pass over a blank image; changes no state.

        Raises:
            RequestError: a field is not as every network must give it (see `models.contract`).
        """
        was_training = self.training
        reference = next(self.parameters())
        blank = torch.zeros(1, 3, self.image_size, self.image_size, dtype=reference.dtype, device=reference.device)
        features = self.eval().features(blank)
        self.train(was_training)
        check_features(self, features)
        return features.shapes()
