"""The batches of a run: which samples, in what order, how augmented, all of it from (seed, epoch, step)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from common.errors import RequestError
from common.seeds import derive_seed, make_generator
from dataset.augment import Augmentation, augment, normalise
from dataset.image_files import ImageFiles, decoded
from dataset.registry import DatasetEntry
from dataset.to_device import resident, to_device


@dataclass
class Batch:
    """One training step's samples, on the compute device.

    Attributes:
        images: float32 B×3×H×W, normalised.
        labels: int64 B, the class of each image before any mixing. See also `main_labels`.
        index: int64 B, its position in the training set.
        targets: float32 B×K with rows that sum to 1, or None where nothing was mixed.
        epoch: from 1.
        step: within the epoch, from 0.
        seed: of the stream.
    """

    images: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor
    targets: torch.Tensor | None
    epoch: int
    step: int
    seed: int

    @property
    def main_labels(self) -> torch.Tensor:
        """int64 B, the class with the largest share of each image: the label for losses that know one class alone.

        It differs from `labels` where more than half of an image is of another class; at equal shares `labels` stands.
        """
        if self.targets is None:
            return self.labels
        largest, main = self.targets.max(dim=1)
        own = self.targets.gather(1, self.labels[:, None]).squeeze(1)
        return torch.where(own < largest, main, self.labels)

    def first(self, rows: int) -> "Batch":
        """The same of the first rows."""
        targets = None if self.targets is None else self.targets[:rows]
        cut = (part[:rows] for part in (self.images, self.labels, self.index))
        return Batch(*cut, targets, self.epoch, self.step, self.seed)

    def generator(self, purpose: str) -> torch.Generator:
        """A fresh generator on the batch's device, of this purpose at this step: the same each time it is asked for."""
        return make_generator(self.seed, purpose, self.epoch, self.step, device=self.images.device)


class BatchStream:
    """Batches of a training set that stays on the device as uint8, or of files that are decoded ahead of each step.

    Args:
        images: uint8 N×H×W×3, an array or a tensor (a tensor on `device` is shared, not copied), or files.
        labels: int64 N.
        batch_size: B; the last batch of an epoch is smaller, or dropped with `drop_last`.
        channels_last: memory format of the images handed out.
        views: how many independent augmentations of each image a batch holds, one after the other; images, labels,
            index and targets then have `views`·B rows.

    Raises:
        RequestError: no batch at all: fewer images than one batch while incomplete ones are dropped.
    """

    def __init__(
        self,
        images: np.ndarray | torch.Tensor | ImageFiles,
        labels: np.ndarray | torch.Tensor,
        entry: DatasetEntry,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        drop_last: bool,
        device: torch.device | str,
        channels_last: bool = False,
        views: int = 1,
    ):
        if batch_size < 1:
            raise RequestError(f"--batch_size is {batch_size}; give 1 or more")
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images and {len(labels)} labels")
        if len(images) < (batch_size if drop_last else 1):
            raise RequestError(
                f"{len(images)} training images make no batch of {batch_size}; give a --batch_size of "
                f"{max(1, len(images))} or less"
            )
        self.device = torch.device(device)
        self.images = resident(images, self.device)
        self.labels = resident(labels, self.device)
        self.entry = entry
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.seed = seed
        self.drop_last = drop_last
        self.channels_last = channels_last
        self.views = views

    @property
    def steps_per_epoch(self) -> int:
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch (from 1), those before `first_step` left out; none depends on those before it."""
        order = torch.randperm(len(self.images), generator=make_generator(self.seed, "order", epoch))
        chosen = order.split(self.batch_size)[first_step : self.steps_per_epoch]
        indices = (to_device(rows, self.device) for rows in chosen)
        if isinstance(self.images, ImageFiles):
            seen = decoded(self.images, chosen, self._crop_seeds(epoch, first_step), self.device)
            seen = (views.expand(self.views, *views.shape[1:]) for views in seen)
            indexed = zip(indices, seen, strict=True)
        else:
            indexed = ((index, [self.images[index]] * self.views) for index in indices)
        for step, (index, views) in enumerate(indexed, first_step):
            yield self._batch(index, views, epoch, step)

    def _crop_seeds(self, epoch: int, first_step: int) -> list[list[int]] | None:
        if not self.augmentation.crop:
            return None
        return [
            [derive_seed(self.seed, "resized crop", epoch, step, view) for view in range(self.views)]
            for step in range(first_step, self.steps_per_epoch)
        ]

    def _batch(self, index: torch.Tensor, views: Sequence[torch.Tensor], epoch: int, step: int) -> Batch:
        labels = self.labels[index]
        seen = [self._view(number, pixels, labels, epoch, step) for number, pixels in enumerate(views)]
        images, targets = seen[0] if self.views == 1 else self._joined(seen, labels)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return Batch(images, labels.repeat(self.views), index.repeat(self.views), targets, epoch, step, self.seed)

    def _view(self, number: int, pixels: torch.Tensor, labels: torch.Tensor, epoch: int, step: int):
        """The first view is that of a stream with one: methods with and without further views see it alike."""
        purpose = f"augment {number}" if number else "augment"
        generator = make_generator(self.seed, purpose, epoch, step)
        return augment(pixels, labels, self.entry, self.augmentation, generator)

    def _joined(self, seen: list, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        images = torch.cat([images for images, _ in seen])
        if all(targets is None for _, targets in seen):
            return images, None
        unmixed = F.one_hot(labels, self.entry.num_classes).float()
        return images, torch.cat([unmixed if targets is None else targets for _, targets in seen])


def evaluation_batches(
    images: np.ndarray | torch.Tensor | ImageFiles,
    labels: np.ndarray | torch.Tensor,
    entry: DatasetEntry,
    batch_size: int,
    device: torch.device | str,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """All samples in their order: images float32 B×3×H×W, normalised, and labels int64 B; the last batch is smaller.

    Arrays are copied to the device once per call; pass tensors that are there already (`resident`) to spare that.
    """
    device = torch.device(device)
    images, labels = resident(images, device), resident(labels, device)
    if isinstance(images, ImageFiles):
        pieces = (views[0] for views in decoded(images, torch.arange(len(images)).split(batch_size), None, device))
    else:
        pieces = images.split(batch_size)
    for piece, answers in zip(pieces, labels.split(batch_size), strict=True):
        yield normalise(piece.permute(0, 3, 1, 2).contiguous(), entry.mean, entry.std), answers
