"""Single image files, brought to a network's size as the images that it was tested on were."""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dataset.image_files import ImageFiles, middle
from dataset.registry import Framing


def read_square(path: Path, size: int, framing: Framing) -> Tensor:
    """Read one image as uint8 size×size×3 (RGB).

    Args:
        framing: "middle" for the square in the middle, as photographs are tested; "whole" for the whole image, scaled.

    Raises:
        RunError: it cannot be read or decoded.
    """
    image = ImageFiles(path.parent, np.array([os.fsencode(path.name)]), size).decode(0)
    if framing == "middle":
        image = middle(image, size)
    elif image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image))
