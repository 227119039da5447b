"""The network as it leaves: pixels in, logits out, with normalisation and the method's prediction rule inside."""

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from dataset import DatasetEntry
from engine.checkpoints.exports.names import Pixels
from engine.checkpoints.inference_network import InferenceNetwork


class DeployedNetwork(nn.Module):
    """Turns pixels into logits.

    Args:
        entry: the data set whose normalisation the network expects.
        pixels: what comes in, "uint8" in 0..255 or "float" in 0..1.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: InferenceNetwork, entry: DatasetEntry, pixels: Pixels = "uint8"):
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (entry.mean, entry.std))
        self.register_buffer("scale", (1 / (std * (255 if pixels == "uint8" else 1))).float())
        self.register_buffer("shift", (-mean / std).float())
        self.image_size, self.pixels = entry.image_size, pixels
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """B×3×H×W images, uint8 or float32, to B×K logits."""
        return self.network(torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale))

    def example(self, count: int) -> Tensor:
        """Random images of the kind that it takes, always the same ones."""
        generator = torch.Generator().manual_seed(0)
        size = (count, 3, self.image_size, self.image_size)
        images = torch.randint(256, size, dtype=torch.uint8, generator=generator)
        return images if self.pixels == "uint8" else images.float() / 255


def exported_program(network: DeployedNetwork) -> ExportedProgram:
    """The network as a graph for any number of images (torch.export)."""
    with torch.no_grad():
        return torch.export.export(network, (network.example(2),), dynamic_shapes=({0: Dim("batch", min=1)},))
