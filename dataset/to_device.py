"""From host memory to the compute device, without making the host wait for the device."""

from typing import NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

from dataset.image_files import ImageFiles
from dataset.registry import Arrays


class DeviceArrays(NamedTuple):
    """A data set on the compute device: images uint8 N×H×W×3 or files, labels int64 N."""

    train_images: Tensor | ImageFiles
    train_labels: Tensor
    test_images: Tensor | ImageFiles
    test_labels: Tensor


def to_device(values: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """Copy small host values to `device`, queued behind the work that is under way there."""
    values = torch.as_tensor(values)
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)  # from unpinned memory the host would wait
    return values.to(device)


@overload
def resident(images: ImageFiles, device: torch.device | str) -> ImageFiles: ...
@overload
def resident(images: Tensor | np.ndarray, device: torch.device | str) -> Tensor: ...
def resident(images: Tensor | np.ndarray | ImageFiles, device: torch.device | str) -> Tensor | ImageFiles:
    """Put a whole array on `device` as a tensor; files stay files.

    On the CPU the tensor shares the memory of the array, which may be mapped from a file.
    """
    if isinstance(images, ImageFiles):
        return images
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(images if images.flags.writeable else images.copy())
    return images.to(device)


def resident_arrays(arrays: Arrays, device: torch.device | str) -> DeviceArrays:
    """Put a whole data set on `device` (see `resident`)."""
    return DeviceArrays(
        resident(arrays.train_images, device),
        resident(arrays.train_labels, device),
        resident(arrays.test_images, device),
        resident(arrays.test_labels, device),
    )
