"""The most memory that the tensors of a piece of work take at once, those that autograd keeps included."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Counts the storages that are made within the block, from their making to their end, on the CPU.

    The process's own peak says less: what one step frees, the allocator keeps for the next. What kernels take for
    themselves is not seen, nor is what a backward pass on a GPU makes, which runs on another thread.

    Attributes:
        peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._current = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self._meet(tensor, 0)  # made before, unless it is known
        made = function(*args, **kwargs)
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._meet(tensor, tensor.untyped_storage().nbytes())
        return made

    def _meet(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self._current += size
        self.peak = max(self.peak, self._current)
        weakref.finalize(storage, self._part, key, size)

    def _part(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._current -= size


def peak_bytes(step, device: torch.device) -> int:
    """The peak of `step()` beyond what was there before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with PeakMemory() as memory:
        step()
    return memory.peak
