"""From host memory to the compute device without making the host wait for the device."""

import numpy as np
import torch

from dataset.image_files import ImageFiles


def to_device(values: torch.Tensor | np.ndarray, device: torch.device) -> torch.Tensor:
    """A copy of small host values on `device`, queued behind the work that is under way there."""
    values = torch.as_tensor(values)
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)  # from unpinned memory the host would wait
    return values.to(device)


def resident(images: torch.Tensor | np.ndarray | ImageFiles, device: torch.device | str) -> torch.Tensor | ImageFiles:
    """A whole array as a tensor on `device`. On the CPU, memory-mapped arrays stay where they are: no copy.

    Files stay files.
    """
    if isinstance(images, ImageFiles):
        return images
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(images if images.flags.writeable else images.copy())
    return images.to(device)
