"""What a network costs to run: counted, not measured."""

import contextlib
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def multiply_accumulates(network: nn.Module) -> int:
    """Return the number of multiply-accumulates that the prediction of one image takes; changes no state.

    Convolutions, matrix products and attention count. Normalisation, activations, pooling and sums do not, as is usual.

    Args:
        network: a module that has `image_size` and makes logits of B×3×H×W images. What it predicts with counts, so a
            student that was given heads costs more with them than without.
    """
    with _evaluating(network), torch.no_grad():
        try:
            return _counted(network, _pass_on_meta)
        except Exception:  # of a network that reads values, which tensors on the meta device do not have
            return _counted(network, lambda module: module(_blank_image(module)))


def _counted(network: nn.Module, run: Callable[[nn.Module], object]) -> int:
    # The fused forms of attention are not counted on every device; the plain one is two matrix products.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run(network)
    return counter.get_total_flops() // 2  # a multiply-accumulate is two operations


def _pass_on_meta(network: nn.Module) -> None:
    """Pass one image through a network without computing anything: it takes no time, whatever the size."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    on_meta = {name: tensor.to("meta") for name, tensor in tensors}
    functional_call(network, on_meta, (_blank_image(network).to("meta"),))


def count_used_parameters(network: nn.Module, part: nn.Module) -> int:
    """Return the number of scalars in those parameters of a part that the predictions depend on; changes no state.

    Args:
        network: as of `multiply_accumulates`.
        part: a module within it.
    """
    parameters = list(part.parameters())
    if not parameters:
        return 0
    trained = [parameter.requires_grad for parameter in parameters]
    try:
        with _evaluating(network), torch.enable_grad():
            for parameter in parameters:
                parameter.requires_grad_(True)
            total = network(_blank_image(network)).sum()
            gradients = torch.autograd.grad(total, parameters, allow_unused=True) if total.requires_grad else ()
    finally:
        for parameter, was_trained in zip(parameters, trained, strict=True):
            parameter.requires_grad_(was_trained)
    return sum(gradient.numel() for gradient in gradients if gradient is not None)


def _blank_image(network: nn.Module) -> Tensor:
    """1×3×H×W, as the network takes it."""
    reference, size = next(network.parameters()), cast(int, network.image_size)
    return torch.zeros(1, 3, size, size, dtype=reference.dtype, device=reference.device)


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards every module is in the mode in which it was."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
