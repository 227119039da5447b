"""Means over the running epoch of whatever a step names."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.device.timer import Span, seconds_of


@dataclass
class RunningMeans:
    """Sums over the images of the running epoch; they stay on the device, so that adding waits for nothing.

    Attributes:
        sums: float64, one for each of `names`.
        seconds: time spent on the images up to the last call of `means`.
        spans: what was spent since; on CUDA it can be read only after the work.
    """

    names: list[str]
    sums: Tensor
    images: int = 0
    seconds: float = 0.0
    spans: list[Span] = field(default_factory=list)

    @classmethod
    def of(cls, values: dict[str, Tensor]) -> "RunningMeans":
        """Empty meters for values like these."""
        device = next(iter(values.values())).device
        return cls(list(values), torch.zeros(len(values), dtype=torch.float64, device=device))

    @torch.no_grad()
    def add(self, values: dict[str, Tensor], images: int) -> None:
        """Add the means over a batch of `images`; scalars, in the order of `names`."""
        self.sums += torch.stack(list(values.values())).double() * images
        self.images += images

    def means(self) -> dict[str, float]:
        """Means over all images so far; brings `seconds` up to date; waits for the device."""
        means = (self.sums / self.images).tolist()
        self.seconds += sum(map(seconds_of, self.spans))
        self.spans.clear()
        return dict(zip(self.names, means, strict=True))
