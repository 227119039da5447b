"""The batches of a run: which samples, in what order, how augmented, all of it from (seed, epoch, step)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Never

import numpy as np
import torch
from torch import Tensor

from common.errors import RequestError, RunError
from common.seeds import derive_seed, make_generator
from dataset.augment import Augmentation, augment, normalise, one_hot_rows
from dataset.image_files import ImageFiles
from dataset.image_workers import decoded
from dataset.registry import UNLABELLED, DatasetEntry
from dataset.to_device import resident, to_device

Labelled = Literal["all", "some", "no"]


@dataclass
class Batch:
    """The samples of one training step, on the compute device.

    Attributes:
        images: float32 B×3×H×W, normalised.
        labels: int64 B, the class of each image before any mixing, -1 for one without a label. See also `main_labels`.
        index: int64 B, position of each image in the training set.
        targets: float32 B×K with rows that sum to 1, or None where nothing was mixed. What a row lacks to 1 is the
            share of an image without a label.
        epoch: from 1; 0 and below in an initial stage.
        step: within the epoch, from 0.
        seed: of the stream.
        labelled: how many images of the training set have a label; those of a batch are not counted.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    targets: Tensor | None
    epoch: int
    step: int
    seed: int
    labelled: Labelled = "all"

    @property
    def main_labels(self) -> Tensor:
        """int64 B, the class with the largest share of each image: the label for losses that know one class alone.

        It differs from `labels` where more than half of an image shows another class; at equal shares it is `labels`.
        It is -1 where the largest share has no label.
        """
        if self.targets is None:
            return self.labels
        if self.labelled == "all":
            largest, main = self.targets.max(dim=1)
            own = self.targets.gather(1, self.labels[:, None]).squeeze(1)
            return torch.where(own < largest, main, self.labels)
        shares = torch.cat([1 - self.targets.sum(dim=1, keepdim=True), self.targets], dim=1)
        largest, main = shares.max(dim=1)
        own = shares.gather(1, self.labels[:, None] - UNLABELLED).squeeze(1)
        return torch.where(own < largest, main + UNLABELLED, self.labels)

    @property
    def labelled_images(self) -> Tensor:
        """Float32 scalar: how many images the labels are of; of a mixed one its labelled share counts."""
        return (self.labels != UNLABELLED).float().sum() if self.targets is None else self.targets.sum()

    def first(self, rows: int) -> "Batch":
        """The first `rows` samples of the batch."""
        targets = None if self.targets is None else self.targets[:rows]
        images, labels, index = self.images[:rows], self.labels[:rows], self.index[:rows]
        return Batch(images, labels, index, targets, self.epoch, self.step, self.seed, self.labelled)

    def generator(self, purpose: str) -> torch.Generator:
        """A fresh random generator on the batch's device, the same for each call with one purpose at one step."""
        return make_generator(self.seed, purpose, self.epoch, self.step, device=self.images.device)


class WithoutLabels:
    """A batch for a method that must not read labels: any use of them raises RunError.

    Args:
        reader: the name of the method.
    """

    def __init__(self, reader: str, batch: Batch):
        self._reader, self._batch = reader, batch
        self.images, self.index, self.epoch, self.step = batch.images, batch.index, batch.epoch, batch.step

    def _refuse(self) -> Never:
        raise RunError(
            f"method {self._reader} reads the labels of a batch in which images have none; write `reads_labels = True` "
            f"in its class, and --unlabelled is refused for it"
        )

    @property
    def labels(self) -> Tensor:
        """Raises RunError, as `main_labels` and `targets` do."""
        self._refuse()

    @property
    def main_labels(self) -> Tensor:
        self._refuse()

    @property
    def targets(self) -> Tensor | None:
        self._refuse()

    def first(self, rows: int) -> "WithoutLabels":
        """The first `rows` samples of the batch."""
        return WithoutLabels(self._reader, self._batch.first(rows))

    def generator(self, purpose: str) -> torch.Generator:
        """As that of the batch."""
        return self._batch.generator(purpose)


@dataclass(frozen=True)
class Batching:
    """How batches are made of a training set.

    Attributes:
        batch_size: B; the last batch of an epoch is smaller, or dropped with `drop_last`.
        seed: of order and augmentation.
        channels_last: memory format of the images.
        views: how many independent augmentations of each image a batch holds, one after the other; images, labels,
            index and targets then have `views`·B rows.
    """

    augmentation: Augmentation
    batch_size: int
    seed: int
    drop_last: bool
    channels_last: bool = False
    views: int = 1

    def steps_per_epoch(self, images: int) -> int:
        """Number of batches of an epoch over so many images."""
        whole, rest = divmod(images, self.batch_size)
        return whole + bool(rest and not self.drop_last)


class BatchStream:
    """Batches of a training set that stays on the device as uint8, or of files that are decoded ahead of each step.

    Args:
        images: uint8 N×H×W×3, an array or a tensor (a tensor on `device` is shared, not copied), or files.
        labels: int64 N; -1 for an image without a label.

    Raises:
        RequestError: there is no batch: fewer images than one batch while incomplete ones are dropped.
    """

    def __init__(
        self,
        images: np.ndarray | Tensor | ImageFiles,
        labels: np.ndarray | Tensor,
        entry: DatasetEntry,
        batching: Batching,
        device: torch.device | str,
    ):
        size = batching.batch_size
        if size < 1:
            raise RequestError(f"--batch_size is {size}; give 1 or more")
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images and {len(labels)} labels")
        if len(images) < (size if batching.drop_last else 1):
            raise RequestError(
                f"{len(images)} training images make no batch of {size}; give a --batch_size of "
                f"{max(1, len(images))} or less"
            )
        self.device = torch.device(device)
        self.images = resident(images, self.device)
        self.labels = resident(labels, self.device)
        self.labelled = _labelled(self.labels)
        self.entry = entry
        self.batching = batching

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch."""
        return self.batching.steps_per_epoch(len(self.images))

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch (from 1), from `first_step` on; none depends on those before it."""
        order = torch.randperm(len(self.images), generator=make_generator(self.batching.seed, "order", epoch))
        steps = slice(first_step, self.steps_per_epoch)
        chosen = order.split(self.batching.batch_size)[steps]
        on_device = to_device(order, self.device).split(self.batching.batch_size)[steps]  # one copy for the epoch
        pixels = self._pixels(chosen, on_device, epoch, first_step)
        for step, (index, views) in enumerate(zip(on_device, pixels, strict=True), first_step):
            yield self._batch(index, views, epoch, step)

    def _pixels(
        self, chosen: Sequence[Tensor], on_device: Sequence[Tensor], epoch: int, first_step: int
    ) -> Iterator[Sequence[Tensor]]:
        """For each batch and each of its views the pixels uint8 B×H×W×3, before augmentation.

        Args:
            chosen, on_device: the rows of each batch, on the host and on the device.
        """
        views = self.batching.views
        if isinstance(self.images, ImageFiles):
            for pixels in decoded(self.images, chosen, self._crop_seeds(epoch, first_step), self.device):
                yield pixels.expand(views, *pixels.shape[1:]).unbind()
        else:
            for index in on_device:
                yield [self.images[index]] * views

    def _crop_seeds(self, epoch: int, first_step: int) -> list[list[int]] | None:
        if not self.batching.augmentation.crop:
            return None
        return [
            [derive_seed(self.batching.seed, "resized crop", epoch, step, view) for view in range(self.batching.views)]
            for step in range(first_step, self.steps_per_epoch)
        ]

    def _batch(self, index: Tensor, views: Sequence[Tensor], epoch: int, step: int) -> Batch:
        labels, batching = self.labels[index], self.batching
        seen = [self._view(number, pixels, labels, epoch, step) for number, pixels in enumerate(views)]
        images, targets = seen[0] if len(seen) == 1 else self._joined(seen, labels)
        if batching.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        labels, index = labels.repeat(batching.views), index.repeat(batching.views)
        return Batch(images, labels, index, targets, epoch, step, batching.seed, self.labelled)

    def _view(self, number: int, pixels: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor | None]:
        """The first view is that of a stream with one: methods with and without further views see it alike."""
        purpose = f"augment {number}" if number else "augment"
        generator = make_generator(self.batching.seed, purpose, epoch, step)
        return augment(pixels, labels, self.entry, self.batching.augmentation, generator)

    def _joined(self, seen: list[tuple[Tensor, Tensor | None]], labels: Tensor) -> tuple[Tensor, Tensor | None]:
        images = torch.cat([images for images, _ in seen])
        if all(targets is None for _, targets in seen):
            return images, None
        unmixed = one_hot_rows(labels, self.entry.num_classes)
        return images, torch.cat([unmixed if targets is None else targets for _, targets in seen])


def _labelled(labels: Tensor) -> Labelled:
    with_label = labels != UNLABELLED
    if with_label.all():
        return "all"
    return "some" if with_label.any() else "no"


def evaluation_batches(
    images: np.ndarray | Tensor | ImageFiles,
    labels: np.ndarray | Tensor,
    entry: DatasetEntry,
    batch_size: int,
    device: torch.device | str,
) -> Iterator[tuple[Tensor, Tensor]]:
    """All samples in their order: images float32 B×3×H×W, normalised, and labels int64 B; the last batch is smaller.

    Arrays are copied to the device once per call; pass tensors that are there already (`resident`) to spare that.
    """
    device = torch.device(device)
    of_batch = resident(labels, device).split(batch_size)
    for pixels, classes in zip(pixel_batches(images, batch_size, device), of_batch, strict=True):
        yield normalise(pixels.permute(0, 3, 1, 2).contiguous(), entry.mean, entry.std), classes


def pixel_batches(images: np.ndarray | Tensor | ImageFiles, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """All images in their order as they are tested, before normalisation: uint8 B×H×W×3 on the device."""
    if isinstance(images, ImageFiles):
        batches = torch.arange(len(images)).split(batch_size)
        return (views[0] for views in decoded(images, batches, None, device))
    return iter(resident(images, device).split(batch_size))
