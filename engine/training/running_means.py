"""Means over the running epoch of whatever a step measures."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.device.timer import Span, seconds_of


@dataclass
class RunningMeans:
    """Sums over the images of the running epoch; they stay on the device, so that adding waits for nothing.

    Attributes:
        names: of what is measured; known from the first step on.
        sums: float64, one for each of `names`.
        images: how many were seen; 0 between two epochs.
        counts: float64, how many images each sum is over; None where that is `images` for all.
        seconds: time spent on the images up to the last call of `means`.
        spans: what was spent since; on CUDA it can be read only after the work.
    """

    names: list[str] = field(default_factory=list)
    sums: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    images: int = 0
    seconds: float = 0.0
    spans: list[Span] = field(default_factory=list)
    counts: Tensor | None = None

    @torch.no_grad()
    def add(self, values: dict[str, Tensor], images: int, of_some: dict[str, Tensor] | None = None) -> None:
        """Add the means over a batch of `images`: scalars, of the same names in the same order each time.

        Args:
            of_some: scalars, over how many images those values are means that are not over all.
        """
        stacked = torch.stack(list(values.values())).double()
        if not self.names:
            self.names, self.sums = list(values), torch.zeros_like(stacked)
        if of_some is None:
            self.sums += stacked * images
        else:
            all_images = torch.full_like(stacked[0], images)  # filled on the device, which the host need not wait for
            counts = torch.stack([of_some[name].double() if name in of_some else all_images for name in values])
            self.sums += stacked * counts
            self.counts = counts if self.counts is None else self.counts + counts
        self.images += images

    def means(self) -> dict[str, float]:
        """Means over all images so far; brings `seconds` up to date; waits for the device."""
        counts = self.images if self.counts is None else self.counts.clamp(min=torch.finfo(torch.float64).tiny)
        means = (self.sums / counts).tolist() if self.images else []
        self.seconds += sum(map(seconds_of, self.spans))
        self.spans.clear()
        return dict(zip(self.names, means, strict=True))
