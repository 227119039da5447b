"""Photographs in files of any size, decoded by worker processes ahead of training.

For training a random part of each is scaled to the square (the random resized crop of Szegedy et al., CVPR 2015); for
testing the shorter side is scaled to size/0.875 and the square in the middle taken. Both give what torchvision's
transforms give, whose import takes longer than many a command, with bicubic interpolation as for DeiT.
"""

import math
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from common.errors import RequestError, RunError

CROP_AREA = (0.08, 1.0)  # of the image
CROP_ASPECT = (3 / 4, 4 / 3)  # width to height
CROP_ATTEMPTS = 10  # to draw a box that fits
MOST_WORKERS = 16  # each holds two batches ahead: 1,024 images of 224 px are 154 MB
TEST_SHARE = 0.875  # the middle square's side, of the shorter side

Box = tuple[int, int, int, int]


class ImageFiles:
    """N images below a folder, each to become a square of `size` pixels; indexed by rows as an array is.

    Args:
        names: file names relative to `folder`, as `os.fsencode` gives them, in an array of bytes: no Python objects,
            so that worker processes share its memory.
    """

    def __init__(self, folder: Path, names: np.ndarray, size: int):
        self.folder, self.names, self.size = folder, names, size

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: np.ndarray) -> "ImageFiles":
        return ImageFiles(self.folder, self.names[rows], self.size)

    def path(self, row: int) -> Path:
        """The file of one image."""
        return self.folder / os.fsdecode(self.names[row])

    def listing(self) -> bytes:
        """Names and sizes in bytes of all files, which identify the set: reading all files would take hours.

        Raises:
            RequestError: a file is missing or cannot be read.
        """
        lines = (b"%s %d\n" % (name, self.path(row).stat().st_size) for row, name in enumerate(self.names))
        try:
            return b"".join(lines)
        except OSError as error:
            raise RequestError(f"{error.filename} cannot be read ({error.strerror}); repair or remove it") from error

    def decode(self, row: int) -> Image.Image:
        """One image in RGB of 8 bits; grey ones of 16 bits keep the upper 8.

        Raises:
            RunError: it cannot be read, or the range of its values is unknown.
        """
        try:
            with Image.open(self.path(row)) as image:
                # Pillow's own conversion of these modes cuts off at 255, which leaves a white image.
                if image.mode.startswith("I;16"):
                    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
                if image.mode in ("I", "F"):
                    raise ValueError(f"Pillow's mode {image.mode} has no known range: convert it to 8 bits")
                return image.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise RunError(f"{self.path(row)} cannot be decoded ({str(error)[:100]}); repair or remove it") from error


def middle(image: Image.Image, size: int) -> Image.Image:
    """The square in the middle of an image, `size` pixels wide, for testing."""
    (width, height), scaled = image.size, round(size / TEST_SHARE)
    shorter = min(width, height)
    scaled_size = (int(scaled * width / shorter), int(scaled * height / shorter))
    image = image.resize(scaled_size, Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def part(image: Image.Image, size: int, draws: Sequence[Sequence[float]]) -> Image.Image:
    """The part of an image that `draws` choose (see `random_box`), scaled to a square of `size` pixels."""
    return image.crop(random_box(*image.size, draws)).resize((size, size), Image.Resampling.BICUBIC)


def random_box(width: int, height: int, draws: Sequence[Sequence[float]]) -> Box:
    """Left, top, right and bottom of the first box that fits into the image, or of the largest one in the middle.

    Args:
        draws: for each attempt four numbers in [0, 1): area, aspect (in the logarithm), and place across and down.
    """
    low, high = (math.log(aspect) for aspect in CROP_ASPECT)
    for of_area, of_aspect, across, down in draws:
        area = (CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * of_area) * width * height
        aspect = math.exp(low + (high - low) * of_aspect)
        wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < tall <= height:
            left, top = int(across * (width - wide + 1)), int(down * (height - tall + 1))
            return left, top, left + wide, top + tall
    narrowest, widest = CROP_ASPECT
    wide, tall = min(width, round(height * widest)), min(height, round(width / narrowest))
    left, top = (width - wide) // 2, (height - tall) // 2
    return left, top, left + wide, top + tall


def decoded(
    files: ImageFiles, batches: Sequence[torch.Tensor], seeds: Sequence[Sequence[int]] | None, device: torch.device
) -> Iterator[torch.Tensor]:
    """Decode batches of pixels ahead of time, in one process for each core, up to MOST_WORKERS.

    Args:
        batches: rows of each batch, int64 B.
        seeds: of the random parts, for each batch one a view; None for the squares in the middle, in one view.

    Yields:
        uint8 views×B×size×size×3 on `device`.

    Raises:
        RunError: a file cannot be decoded.
    """
    loader = DataLoader(
        _Batches(files, batches, seeds),
        batch_size=None,
        num_workers=min(_own_cores(), MOST_WORKERS, len(batches)),
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_signals,
    )
    for pixels in loader:
        if isinstance(pixels, str):
            raise RunError(pixels)
        yield pixels.to(device, non_blocking=True)


def _own_cores() -> int:
    """Number of cores for this process, a share of them where torchrun started several."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # not on macOS
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _leave_signals(worker: int) -> None:
    """Ignore Ctrl-C, which reaches every process of the terminal; the main one ends the workers after it has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@dataclass
class _Batches(Dataset):
    """A worker's work: one item is a whole batch, or the message of an error."""

    files: ImageFiles
    batches: Sequence[torch.Tensor]
    seeds: Sequence[Sequence[int]] | None

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> torch.Tensor | str:
        rows, size = self.batches[number].tolist(), self.files.size
        views = None if self.seeds is None else [_draws(seed, len(rows)) for seed in self.seeds[number]]
        pixels = np.empty((len(views) if views else 1, len(rows), size, size, 3), dtype=np.uint8)
        try:
            for place, row in enumerate(rows):
                image = self.files.decode(row)
                seen = [middle(image, size)] if views is None else [part(image, size, v[place]) for v in views]
                pixels[:, place] = np.stack([np.asarray(square) for square in seen])
        except RunError as error:
            return str(error)
        return torch.from_numpy(pixels)


def _draws(seed: int, images: int) -> list[list[list[float]]]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((images, CROP_ATTEMPTS, 4), generator=generator, dtype=torch.float64).tolist()
