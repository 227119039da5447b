"""Single image files, brought to a network's size as the images that it was tested on were."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.errors import RunError
from common.user_paths import shown_path
from dataset.image_files import middle
from dataset.image_reading import UnreadableImage, read_rgb
from dataset.registry import Framing


def read_square(path: Path, size: int, framing: Framing) -> Tensor:
    """Read one image as uint8 size×size×3 (RGB).

    Args:
        framing: "middle" for the square in the middle, as photographs are tested; "whole" for the whole image, scaled.

    Raises:
        RunError: it cannot be read or decoded.
    """
    try:
        image = read_rgb(path)
    except UnreadableImage as error:
        raise RunError(f"{shown_path(path)} cannot be read ({error.reason}); it is left out") from error
    if framing == "middle":
        image = middle(image, size)
    elif image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image))
