"""RandAugment (Cubuk et al., 2020) on whole batches, in timm's variant of growing strength ("rand-m9-mstd0.5-inc1").

Each image draws its own operations and magnitudes. The draws are on the host, so the images of a batch are grouped by
kind of operation without waiting for the device: all point operations of a round are one table look-up, all geometric
ones one `grid_sample`. Grey levels follow Pillow's arithmetic.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from common.errors import RequestError
from dataset.to_device import to_device

STATIC = ("Invert", "PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd", "BrightnessIncreasing")
MEASURED = ("AutoContrast", "Equalize", "ContrastIncreasing")  # their tables depend on the image
BLENDS = ("ColorIncreasing", "SharpnessIncreasing")
AFFINE = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
OPERATIONS = STATIC + MEASURED + BLENDS + AFFINE

STRONGEST = 10.0  # magnitudes count tenths of an operation's full strength


@dataclass(frozen=True)
class RandAugment:
    """Strength and number of the operations.

    Attributes:
        magnitude: mean strength, 0..10.
        magnitude_std: of the normal noise on the strength; infinity draws it uniformly from 0..magnitude.
        layers: operations drawn per image, with replacement.
        probability: that a drawn operation is applied.
        interpolation: "bilinear" or "nearest", of the geometric operations.
    """

    magnitude: float = STRONGEST
    magnitude_std: float = 0.0
    layers: int = 2
    probability: float = 0.5
    interpolation: str = "bilinear"


def parse_rand_augment(notation: str) -> RandAugment:
    """Parse timm's notation: "rand" and parts m9 (magnitude), n2 (layers), p0.5, mstd0.5, inc1, in any order.

    Raises:
        RequestError: the notation is invalid, or names another set of operations than inc1.
    """
    example = 'write it like "rand-m9-mstd0.5-inc1" (parts: m, n, p, mstd, inc1)'
    first, *parts = notation.split("-")
    if first != "rand":
        raise RequestError(f"unknown augmentation {notation!r}; {example}")
    values: dict[str, float] = {}
    for part in parts:
        match = re.fullmatch(r"(mstd|inc|m|n|p)(\d+(?:\.\d+)?|inf)", part)
        if match is None or match[1] in values:
            raise RequestError(f"unknown part {part!r} in the augmentation {notation!r}; {example}")
        values[match[1]] = float(match[2])
    if values.get("inc") != 1:
        raise RequestError(f"the augmentation {notation!r} names a set of operations that is not available; add -inc1")
    magnitude, layers, probability = values.get("m", STRONGEST), values.get("n", 2), values.get("p", 0.5)
    if magnitude > STRONGEST or layers != int(min(layers, 100)) or probability > 1:
        raise RequestError(f"the augmentation {notation!r} is out of range: m 0..10, n a small whole number, p 0..1")
    std = values.get("mstd", 0.0)
    return RandAugment(magnitude, float("inf") if std > 100 else std, int(layers), probability)


def rand_augment(
    images: torch.Tensor, policy: RandAugment, fill: tuple[float, float, float], generator: torch.Generator
) -> torch.Tensor:
    """Augment uint8 images B×3×H×W; what leaves the frame shows `fill` (RGB, 0..255). `generator` lives on the CPU."""
    for draws in draw_operations(len(images), policy, generator):
        images = apply_operations(images, draws, fill, policy.interpolation)
    return images


class Draws(NamedTuple):
    """One operation for each of n images of a batch; arrays of length n.

    Attributes:
        rows: which images, each at most once.
        operations: positions in OPERATIONS.
        levels: strengths 0..10.
        signs: ±1, the direction of the operations that have one.
    """

    rows: np.ndarray
    operations: np.ndarray
    levels: np.ndarray
    signs: np.ndarray


def draw_operations(size: int, policy: RandAugment, generator: torch.Generator) -> list[Draws]:
    """Draw the operations of a batch of `size` images, a record for each layer."""
    layers = policy.layers
    drawn = torch.randint(len(OPERATIONS), (layers, size), generator=generator).numpy()
    applied = (torch.rand((layers, size), generator=generator) < policy.probability).numpy()
    if policy.magnitude_std == float("inf"):
        strength = policy.magnitude * torch.rand((layers, size), generator=generator, dtype=torch.float64)
    else:
        noise = torch.randn((layers, size), generator=generator, dtype=torch.float64)
        strength = policy.magnitude + policy.magnitude_std * noise
    levels = strength.clamp(0, STRONGEST).numpy()
    signs = (torch.randint(2, (layers, size), generator=generator) * 2 - 1).numpy()
    chosen = [np.flatnonzero(mask) for mask in applied]
    return [Draws(rows, drawn[n, rows], levels[n, rows], signs[n, rows]) for n, rows in enumerate(chosen)]


def apply_operations(
    images: torch.Tensor, draws: Draws, fill: tuple[float, float, float], interpolation: str = "bilinear"
) -> torch.Tensor:
    """Apply one operation to each of the drawn images and none to the others; returns a new tensor.

    Args:
        images: uint8 B×3×H×W.
        fill: RGB 0..255, the colour outside the frame.
    """
    if not len(draws.rows):
        return images
    # Groups lie one after another once sorted by operation, and each group is a slice of the same few host arrays.
    order = np.argsort(draws.operations, kind="stable")
    rows, operations, levels, signs = (values[order] for values in draws)
    ends = np.searchsorted(operations, np.arange(len(OPERATIONS) + 1))
    start = {name: int(ends[position]) for position, name in enumerate(OPERATIONS)}
    first_blend, first_affine = start[BLENDS[0]], start[AFFINE[0]]

    places = to_device(rows, images.device)
    chosen = images[places]
    pieces = []
    if first_blend:
        tables = _tables(chosen[:first_blend], start, operations[:first_blend], levels, signs)
        pieces.append(_look_up(chosen[:first_blend], tables))
    if first_affine > first_blend:
        blends = slice(first_blend, first_affine)
        factors = to_device(enhancement(levels[blends], signs[blends]), images.device)
        sharpness = start["SharpnessIncreasing"] - first_blend
        originals = chosen[blends]
        dull = torch.cat([_grey(originals[:sharpness]).expand(-1, 3, -1, -1), _smooth(originals[sharpness:])])
        pieces.append(_blend(dull, originals, factors.view(-1, 1, 1, 1)))
    if len(rows) > first_affine:
        height, width = images.shape[-2:]
        affine = slice(first_affine, None)
        matrices = affine_matrices(operations[affine], levels[affine], signs[affine], (height, width))
        pieces.append(_warp(chosen[first_affine:], to_device(matrices, images.device), fill, interpolation))
    return images.index_copy(0, places, torch.cat(pieces))


# Levels to parameters of the operations


def enhancement(levels: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Blend factors, float32 n: 1 changes nothing, 0.1 nearly removes the property, 1.9 exaggerates it."""
    return np.maximum(0.1, 1 + signs * (levels / STRONGEST) * 0.9).astype(np.float32)


def static_table(name: str, level: float, sign: int) -> np.ndarray:
    """The new grey level of each of the 256 old ones, for an operation that ignores the image; int64 256."""
    old = np.arange(256)
    if name == "Invert":
        return 255 - old
    if name == "PosterizeIncreasing":
        bits = 4 - int(level / STRONGEST * 4)  # none at full strength: a black image
        return old & ~((1 << (8 - bits)) - 1)
    if name == "SolarizeIncreasing":
        threshold = 256 - min(256, int(level / STRONGEST * 256))
        return np.where(old < threshold, old, 255 - old)
    if name == "SolarizeAdd":
        added = min(128, int(level / STRONGEST * 110))
        return np.where(old < 128, np.minimum(255, old + added), old)
    if name == "BrightnessIncreasing":
        factor = enhancement(np.asarray(level), np.asarray(sign))
        return np.minimum(255, factor * old.astype(np.float32)).astype(np.int64)
    raise KeyError(name)


def affine_matrices(operations: np.ndarray, levels: np.ndarray, signs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Matrices m, float32 n×2×3, of the source (x', y') of each output pixel: x' = m₀·(x, y, 1), y' = m₁·(x, y, 1).

    In pixels. Rotation is about the centre, by up to 30°; shears are from the upper left corner, by up to 0.3; shifts
    are by up to 0.45 of the width or height.
    """
    height, width = size
    strength = signs * levels / STRONGEST
    matrices = np.zeros((len(operations), 2, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = 1
    names = np.asarray(OPERATIONS)[operations]
    for name, place, most in (
        ("ShearX", (0, 1), 0.3),
        ("ShearY", (1, 0), 0.3),
        ("TranslateXRel", (0, 2), 0.45 * width),
        ("TranslateYRel", (1, 2), 0.45 * height),
    ):
        matrices[(names == name, *place)] = most * strength[names == name]
    turned = names == "Rotate"
    angle = -np.radians(30 * strength[turned])
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = width / 2, height / 2
    matrices[turned] = np.stack(
        [
            np.stack([cos, sin, x - cos * x - sin * y], -1),
            np.stack([-sin, cos, y + sin * x - cos * y], -1),
        ],
        axis=1,
    )
    return matrices.astype(np.float32)


# Operations on pixels


def _tables(
    images: torch.Tensor, start: dict[str, int], operations: np.ndarray, levels: np.ndarray, signs: np.ndarray
) -> torch.Tensor:
    """A table of grey levels per image and channel, uint8 n×3×256; the images are sorted by operation."""
    pieces: list[torch.Tensor] = []
    contrast, equalize, autocontrast = (start[name] for name in ("ContrastIncreasing", "Equalize", "AutoContrast"))
    if autocontrast:
        static = [static_table(OPERATIONS[operations[i]], levels[i], signs[i]) for i in range(autocontrast)]
        tables = to_device(np.stack(static).astype(np.uint8), images.device)
        pieces.append(tables[:, None].expand(-1, 3, -1))
    if equalize > autocontrast:
        pieces.append(_autocontrast_tables(images[autocontrast:equalize]))
    if contrast > equalize:
        pieces.append(_equalize_tables(images[equalize:contrast]))
    if len(images) > contrast:
        factors = to_device(enhancement(levels[contrast : len(images)], signs[contrast : len(images)]), images.device)
        pieces.append(_contrast_tables(images[contrast:], factors))
    return torch.cat(pieces)


def _look_up(images: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    return tables.gather(2, images.flatten(2).long()).view_as(images)


def _autocontrast_tables(images: torch.Tensor) -> torch.Tensor:
    """Tables that stretch each channel's range to 0..255; a channel of one grey level stays."""
    low, high = (extreme.int()[..., None] for extreme in torch.aminmax(images.flatten(2), dim=2))
    old = torch.arange(256, device=images.device, dtype=torch.int32)
    stretched = ((old - low) * 255).div((high - low).clamp(min=1), rounding_mode="floor").clamp(0, 255)
    return torch.where(high > low, stretched, old).to(torch.uint8)


def _equalize_tables(images: torch.Tensor) -> torch.Tensor:
    """Tables that spread each channel's grey levels by their cumulative histogram, in whole numbers as Pillow does."""
    count, pixels = len(images) * 3, images.shape[-2] * images.shape[-1]
    values = images.reshape(count, pixels).long()
    offsets = torch.arange(count, device=images.device)[:, None] * 256
    histogram = torch.zeros(count * 256, dtype=torch.int32, device=images.device)
    ones = torch.ones(count * pixels, dtype=torch.int32, device=images.device)
    histogram = histogram.scatter_add_(0, (values + offsets).flatten(), ones).view(count, 256)
    last = histogram.gather(1, values.amax(1, keepdim=True))  # how many pixels have the brightest level present
    step = (pixels - last).div(255, rounding_mode="floor")
    below = histogram.cumsum(1, dtype=torch.int32) - histogram
    old = torch.arange(256, device=images.device, dtype=torch.int32)
    spread = (below + step // 2).div(step.clamp(min=1), rounding_mode="floor").clamp(0, 255)
    return torch.where(step > 0, spread, old).to(torch.uint8).view(-1, 3, 256)


def _contrast_tables(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Tables that move grey levels towards or away from the image's mean grey."""
    pixels = images.shape[-2] * images.shape[-1]
    total = _grey(images).long().sum((1, 2, 3))
    mean = (2 * total + pixels).div(2 * pixels, rounding_mode="floor")[:, None]  # the mean, rounded half up
    old = torch.arange(256, device=images.device, dtype=torch.uint8)[None].expand(len(images), -1)
    return _blend(mean, old, factors[:, None])[:, None].expand(-1, 3, -1)


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Luma of ITU-R 601 in 16-bit fixed point; uint8 n×1×H×W."""
    red, green, blue = images.int().unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).to(torch.uint8)[:, None]


def _smooth(images: torch.Tensor) -> torch.Tensor:
    """Each pixel averaged with its eight neighbours, itself weighing 5 of 13; the outermost pixels stay."""
    wide = images.int()
    rows = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * wide[:, :, 1:-1, 1:-1]
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = ((2 * sums + 13) // 26).to(torch.uint8)
    return smooth


def _blend(dull: torch.Tensor, original: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """dull + factor·(original − dull), clamped to 0..255 and rounded down; uint8."""
    dull = dull.float()
    return torch.addcmul(dull, original.float() - dull, factors).clamp_(0, 255).to(torch.uint8)


def _warp(
    images: torch.Tensor, matrices: torch.Tensor, fill: tuple[float, float, float], interpolation: str
) -> torch.Tensor:
    """Fetch each pixel from the source that its matrix gives, between pixel corners; outside lies `fill`."""
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) + 0.5
    y = torch.arange(height, device=images.device)[:, None] + 0.5
    a = matrices[..., None, None]
    from_x = a[:, 0, 0] * x + a[:, 0, 1] * y + a[:, 0, 2]
    from_y = a[:, 1, 0] * x + a[:, 1, 1] * y + a[:, 1, 2]
    grid = torch.stack([from_x * (2 / width) - 1, from_y * (2 / height) - 1], dim=-1)
    warped = F.grid_sample(images.float(), grid, mode=interpolation, padding_mode="border", align_corners=False)
    inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
    warped = warped.add_(0.5).to(torch.uint8)
    colour = to_device(np.rint(fill).astype(np.uint8), images.device).view(1, 3, 1, 1)
    return torch.where(inside[:, None], warped, colour)
