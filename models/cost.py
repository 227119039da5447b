"""The cost of a network's forward pass, counted without computing anything."""

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from models.network import Network


@torch.no_grad()
def multiply_accumulates(network: Network) -> int:
    """Number of multiply-accumulates of one forward pass on one image, as papers count them (often called FLOPs).

    Counted are matrix products and convolutions, those of attention included; not counted are norms, activations,
    additions and pooling. The pass runs on torch's meta device, which has shapes and no values, so it costs a fraction
    of a second for a network of any size, and changes nothing.
    """
    modes = {name: module.training for name, module in network.named_modules()}
    network.eval()  # batch norm refuses to train on one image
    try:
        with FlopCounterMode(display=False) as counter:
            _pass_on_meta(network, network.image_size)
    finally:
        for name, module in network.named_modules():
            module.training = modes[name]
    return counter.get_total_flops() // 2  # torch counts the product and the sum as two


def _pass_on_meta(network: nn.Module, size: int) -> None:
    tensors = [*network.named_parameters(), *network.named_buffers()]
    on_meta = {name: tensor.to("meta") for name, tensor in tensors}
    dtype = next(network.parameters()).dtype
    functional_call(network, on_meta, (torch.empty(1, 3, size, size, dtype=dtype, device="meta"),))
