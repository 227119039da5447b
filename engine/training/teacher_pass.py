"""The teachers' forward pass, made once for all runs of a group."""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.compute import Compute
from models import Features


def teacher_pass(
    teachers: Sequence[InferenceNetwork], needs: Collection[str], compute: Compute
) -> Callable[[Tensor], tuple[Features, ...]]:
    """Return a function from images B×3×H×W to each teacher's features: the logits and the fields in `needs`.

    Several processes pass a piece of the batch each; every one gets the features of the whole batch, in float32.
    """

    def look(images: Tensor) -> tuple[Features, ...]:
        return tuple(teacher.features(images).only(needs) for teacher in teachers)

    look = compute.compiled(look)

    def teach(images: Tensor) -> tuple[Features, ...]:
        with torch.inference_mode(), compute.autocast():
            seen = look(compute.world.shard(images))
        # Students' losses need their gradients' other factor, and tensors made in inference mode can't be kept for
        # that. The copies also outlive the memory of a CUDA graph.
        rows = len(images)
        return tuple(compute.world.gather_features(features.only(needs, copy=True), rows) for features in seen)

    return teach
