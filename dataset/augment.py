"""Augmentation of whole batches of tensors. The random numbers come from the CPU, so every device sees the same images.

Pixel space (uint8): crop, flip, RandAugment; then normalisation; then erasing, and mixup or CutMix with mixed targets.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

from common.errors import RequestError
from dataset.randaugment import RandAugment, parse_rand_augment, rand_augment
from dataset.registry import UNLABELLED, Colour, DatasetEntry
from dataset.to_device import to_device

ERASED_AREA = (0.02, 1 / 3)  # of the image
ERASED_ASPECT = (0.3, 1 / 0.3)  # height to width
ERASING_ATTEMPTS = 10  # to draw a box that fits


@dataclass(frozen=True)
class Augmentation:
    """The augmentation of training images.

    Attributes:
        crop: random crop from the zero-padded image, or a random part of a file, if the data set allows it.
        flip: mirror image with probability 1/2, if the data set allows it.
        rand_augment: timm's notation, such as "rand-m9-mstd0.5-inc1", or "" for none.
        erasing: probability that a box of an image is filled with normal noise (Zhong et al., 2020).
        mixup, cutmix: α of the Beta(α, α) that weighs two images (Zhang et al., 2018) or sizes the box pasted from
            one into the other (Yun et al., 2019); 0 means never.
        mix_probability: that a batch is mixed at all.
        switch_probability: that a mixed batch is mixed by CutMix where both are on.
    """

    crop: bool = True
    flip: bool = True
    rand_augment: str = ""
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    switch_probability: float = 0.5

    def __post_init__(self):
        self.policy()
        for name in ("erasing", "mix_probability", "switch_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise RequestError(f"--{name} is {getattr(self, name)}; give a probability, from 0 to 1")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RequestError(f"--{name} is {getattr(self, name)}; give 0 (off) or more")

    def policy(self) -> RandAugment | None:
        """The parsed `rand_augment`, None if it is empty; raises RequestError if it is invalid."""
        return parse_rand_augment(self.rand_augment) if self.rand_augment else None


def augment(
    images: torch.Tensor,
    labels: torch.Tensor,
    entry: DatasetEntry,
    augmentation: Augmentation,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Augment and normalise a batch.

    Args:
        images: uint8 B×H×W×3.
        labels: int64 B, on the same device.
        generator: on the CPU; the draws depend on the shapes and on `augmentation` alone.

    Returns:
        Images float32 B×3×H×W, normalised, and targets float32 B×K, or None if nothing was mixed.
    """
    if augmentation.crop and entry.crop_padding:
        images = random_crop(images, entry.crop_padding, generator)
    images = images.permute(0, 3, 1, 2).contiguous()
    if augmentation.flip and entry.horizontal_flip:
        images = random_flip(images, generator)
    policy = augmentation.policy()
    if policy is not None:
        red, green, blue = (round(255 * channel) for channel in entry.mean)
        images = rand_augment(images, policy, (red, green, blue), generator)
    images = normalise(images, entry.mean, entry.std)
    if augmentation.erasing:
        images = random_erase(images, augmentation.erasing, generator)
    if augmentation.mixup or augmentation.cutmix:
        return mix(images, labels, entry.num_classes, augmentation, generator)
    return images, None


def random_crop(images: torch.Tensor, padding: int, generator: torch.Generator) -> torch.Tensor:
    """Pad each image of B×H×W×C by `padding` zeros and crop it at a random place to its former size."""
    offsets = torch.randint(2 * padding + 1, (2, len(images)), generator=generator)
    return crop(images, padding, offsets)


def crop(images: torch.Tensor, padding: int, offsets: torch.Tensor) -> torch.Tensor:
    """Pad each image of B×H×W×C by `padding` zeros and crop it at a given place to its former size.

    A row of a crop is a run of bytes in the padded batch: all are fetched from all possible runs by one gather.

    Args:
        offsets: int64 2×B on the CPU, row and column of the upper left corners, 0..2·padding.
    """
    size, height, width, channels = images.shape
    tall, wide = height + 2 * padding, width + 2 * padding
    padded = images.new_zeros(size, tall, wide, channels)
    padded[:, padding : padding + height, padding : padding + width] = images
    runs = padded.view(-1).unfold(0, width * channels, channels)
    tops = torch.arange(size)[:, None] * tall + torch.arange(height) + offsets[0][:, None]
    starts = tops * wide + offsets[1][:, None]
    return runs[to_device(starts, images.device)].view(size, height, width, channels)


def random_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror each image of B×C×H×W left to right with probability 1/2."""
    mirrored = torch.randint(2, (len(images), 1, 1, 1), generator=generator).bool()
    return torch.where(to_device(mirrored, images.device), images.flip(3), images)


def normalise(images: torch.Tensor, mean: Colour, std: Colour) -> torch.Tensor:
    """uint8 B×3×H×W to float32 (pixel/255 − mean)/std."""
    scale, shift = _normalisation(mean, std, images.device)
    return torch.addcmul(shift, images.float(), scale)


@cache  # constants go to the device once, not at each step
def _normalisation(mean: Colour, std: Colour, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift float32 1×3×1×1, of pixels in 0..255."""
    factors = np.stack([1 / (255 * np.asarray(std)), -np.asarray(mean) / np.asarray(std)]).astype(np.float32)
    scale, shift = to_device(factors, device).view(2, 1, 3, 1, 1)
    return scale, shift


def random_erase(images: torch.Tensor, probability: float, generator: torch.Generator) -> torch.Tensor:
    """Fill one random box in each image of B×C×H×W, with the given probability, with standard normal noise.

    Area and aspect ratio are uniform and log-uniform over ERASED_AREA and ERASED_ASPECT; a box that does not fit is
    drawn again, ERASING_ATTEMPTS times at most.
    """
    size, _, height, width = images.shape
    chosen = torch.rand(size, generator=generator) < probability
    draws = torch.rand((4, size, ERASING_ATTEMPTS), generator=generator, dtype=torch.float64)
    area = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * draws[0]) * (height * width)
    low, high = (math.log(aspect) for aspect in ERASED_ASPECT)
    aspect = torch.exp(low + (high - low) * draws[1])
    tall, wide = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (tall < height) & (wide < width)
    rows = torch.nonzero(chosen & fits.any(1)).flatten()
    if not len(rows):
        return images
    first = (rows, fits.int().argmax(1)[rows])
    tall, wide = tall[first], wide[first]
    top = (draws[2][first] * (height - tall + 1)).floor()
    left = (draws[3][first] * (width - wide + 1)).floor()
    y, x = torch.arange(height), torch.arange(width)
    in_rows = (y >= top[:, None]) & (y < (top + tall)[:, None])
    in_columns = (x >= left[:, None]) & (x < (left + wide)[:, None])
    boxes = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
    noise = torch.randn(int(boxes.sum()) * images.shape[1], generator=generator)  # of a large image a box is a sixth
    places, boxes, noise = (to_device(values, images.device) for values in (rows, boxes, noise))
    return images.index_copy(0, places, images[places].masked_scatter(boxes, noise))


def mix(
    images: torch.Tensor,
    labels: torch.Tensor,
    num_classes: int,
    augmentation: Augmentation,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Mixup or CutMix of the batch with itself in reverse order, one λ for all.

    Returns:
        Images, and targets float32 B×K whose rows sum to 1, or less by the share of images without a label;
        (images, None) if the batch is left as it is.
    """
    # The Beta distribution is drawn by numpy, seeded from the generator: torch draws it from its global one alone.
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    mixed, switched, across, down = rng.random(4)
    if mixed >= augmentation.mix_probability:
        return images, None
    paste = augmentation.cutmix > 0 and (augmentation.mixup == 0 or switched < augmentation.switch_probability)
    alpha = augmentation.cutmix if paste else augmentation.mixup
    share = float(rng.beta(alpha, alpha))
    if paste:
        height, width = images.shape[-2:]
        top, bottom, left, right = cutmix_box(height, width, share, int(down * height), int(across * width))
        share = 1 - (bottom - top) * (right - left) / (height * width)  # the box is cut at the edges
        images = images.clone()
        images[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
    else:
        images = torch.lerp(images.flip(0), images, share)
    one_hot = one_hot_rows(labels, num_classes)
    return images, one_hot * share + one_hot.flip(0) * (1 - share)


def one_hot_rows(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Float32 B×K with a 1 at each label; the row of an image without a label is 0."""
    return F.one_hot(labels - UNLABELLED, num_classes - UNLABELLED)[:, -UNLABELLED:].float()


def cutmix_box(height: int, width: int, share: float, y: int, x: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of a box of (1 − share) of the image's area about (y, x), cut at the edges."""
    side = math.sqrt(1 - share)
    tall, wide = int(height * side), int(width * side)
    top, bottom = max(0, y - tall // 2), min(height, y + (tall + 1) // 2)
    left, right = max(0, x - wide // 2), min(width, x + (wide + 1) // 2)
    return top, bottom, left, right
