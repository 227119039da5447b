"""What a tensor must be to serve as a weight: plain, floating point or a count, and finite."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from common.errors import RequestError
from common.messages import counted


def check_kinds(state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    """Raise RequestError, with advice, for tensors that cannot be copied as they are into those of a network, `own`."""
    for key, value in state.items():
        if (fault := _fault(value, key in own and own[key].is_floating_point())) is not None:
            what, advice = fault
            raise RequestError(f"{path}: {key} is {what}, not a plain floating-point tensor; {advice}")


def is_plain(value: Tensor) -> bool:
    """True for a dense tensor of the CPU."""
    return _fault(value, as_float=False) is None


def _fault(value: Tensor, as_float: bool) -> tuple[str, str] | None:
    if value.device.type == "meta":
        return "of the meta device, without values", "save the network after its weights are loaded"
    if value.is_quantized:
        return f"quantised ({value.dtype})", "save the network before it is quantised"
    if value.is_nested:
        return "a nested tensor", "save dense weights"
    if value.layout != torch.strided:
        return f"sparse ({value.layout})", "save value.to_dense() in its place"
    if value.is_complex():
        return f"complex ({value.dtype})", "save the network in a real dtype"
    if as_float and not value.is_floating_point():
        return f"of integers ({value.dtype})", "save the network before it is quantised"
    return None


def not_finite(state: Mapping[str, Tensor]) -> set[str]:
    """The names of tensors that hold NaN or infinity."""
    return {name for name, value in state.items() if value.is_floating_point() and not _all_finite(value)}


def check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Raise RequestError for a state dict with NaN or infinity, with the name of the first such tensor."""
    faulty = not_finite(state)
    if faulty:
        first = next(name for name in state if name in faulty)
        wrong = int((~torch.isfinite(state[first].float())).sum())
        more = f", and {counted(len(faulty) - 1, 'tensor')} more" if len(faulty) > 1 else ""
        raise RequestError(
            f"{path}: {first} holds NaN or infinity ({wrong} of {counted(state[first].numel(), 'value')}{more}); "
            f"take the weights of an earlier epoch"
        )


def _all_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())
