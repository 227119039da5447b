"""Means over the running epoch of whatever a step names."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Meters:
    """Sums over the images of the running epoch; they stay on the device, so that adding waits for nothing.

    Attributes:
        sums: float64, one for each of `names`.
        seconds: time spent on the images so far.
    """

    names: list[str]
    sums: Tensor
    images: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, values: dict[str, Tensor]) -> "Meters":
        """Empty meters for values like these."""
        device = next(iter(values.values())).device
        return cls(list(values), torch.zeros(len(values), dtype=torch.float64, device=device))

    @torch.no_grad()
    def add(self, values: dict[str, Tensor], images: int) -> None:
        """Add the means over a batch of `images`; scalars, in the order of `names`."""
        self.sums += torch.stack(list(values.values())).double() * images
        self.images += images

    def means(self) -> dict[str, float]:
        """Means over all images so far; waits for the device."""
        return dict(zip(self.names, (self.sums / self.images).tolist(), strict=True))
