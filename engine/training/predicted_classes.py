"""The classes that a network predicts, kept while it is tested."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from engine.training.evaluation import top_classes


class PredictedClasses:
    """Passes images on to a network, and keeps the class that it predicts for each, in the order of the images.

    For `evaluate` in one process: the kept classes are those that its top-1 accuracy counts.

    Args:
        forward: B×3×H×W images to B×K logits.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor]):
        self._forward = forward
        self._batches: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        logits = self._forward(images)
        self._batches.append(top_classes(logits.float())[:, 0])
        return logits

    def labels(self) -> np.ndarray:
        """The predicted class of each image so far, int64 N."""
        return torch.cat(self._batches).cpu().numpy()
