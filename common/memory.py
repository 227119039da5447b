"""Memory of this machine, and what modules take of it."""

import os
from contextlib import suppress
from itertools import chain
from pathlib import Path

from torch import nn

# The limit of a container, where there is one.
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_bytes() -> int | None:
    """Memory that this process may use, without swap; None where the system does not say."""
    limits = []
    with suppress(ValueError, OSError, AttributeError):  # missing on Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):  # "max": no limit
        limits.append(int(CGROUP_LIMIT.read_text()))
    return min(limits, default=None)


def tensor_bytes(*modules: nn.Module) -> int:
    """Bytes of all parameters and buffers, on any device."""
    tensors = chain.from_iterable((*module.parameters(), *module.buffers()) for module in modules)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def gibibytes(number: float) -> str:
    """A number of bytes as text: "1.5 GiB"."""
    return f"{number / 2**30:.1f} GiB"
