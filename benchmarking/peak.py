"""Peak memory of the tensors of a step, including those that autograd keeps."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of storages created within the block while they live, on the CPU.

    The peak of the process says less, because the allocator keeps freed memory for the next step. Scratch memory of
    kernels is not counted, nor is a backward pass on a GPU, which runs on another thread.

    Attributes:
        peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._current = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self._count(tensor, 0)  # existed before the block, unless already counted
        made = function(*args, **kwargs)
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor, tensor.untyped_storage().nbytes())
        return made

    def _count(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self._current += size
        self.peak = max(self.peak, self._current)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._current -= size


def cuda_peak_bytes(step: Callable[[], object], device: torch.device) -> int:
    """Most bytes allocated on a CUDA device during `step()`, earlier allocations included."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def peak_bytes(step: Callable[[], object], device: torch.device) -> int:
    """Most bytes allocated during `step()`, beyond those allocated before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        return cuda_peak_bytes(step, device) - before
    with PeakMemory() as memory:
        step()
    return memory.peak
