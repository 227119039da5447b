"""What a network costs to run: counted, not measured."""

from typing import cast

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def multiply_accumulates(network: nn.Module) -> int:
    """Return the number of multiply-accumulates that the prediction of one image takes; changes no state.

    Convolutions, matrix products and attention count. Normalisation, activations, pooling and sums do not, as is usual.

    Args:
        network: a module that has `image_size` and makes logits of B×3×H×W images. What it predicts with counts, so a
            student that was given heads costs more with them than without.
    """
    reference, size = next(network.parameters()), cast(int, network.image_size)
    image = torch.zeros(1, 3, size, size, dtype=reference.dtype, device=reference.device)
    training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        # The fused forms of attention are not counted on every device; the plain one is two matrix products.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            network(image)
    finally:
        for module, mode in training.items():
            module.training = mode
    return counter.get_total_flops() // 2  # a multiply-accumulate is two operations
