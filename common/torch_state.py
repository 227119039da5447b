"""The settings of torch that belong to a whole process, given back to whoever called a command."""

import contextlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextlib.contextmanager
def restored_torch_state() -> Iterator[None]:
    """Restore torch's random state and the settings that a command changes, as they were before the block.

    Does nothing where torch is not imported yet: `compare.py` does without.
    """
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_rng_state"):
        yield
        return
    cudnn, workspace = torch.backends.cudnn, os.environ.get(CUBLAS_WORKSPACE)
    benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    algorithms = _deterministic_algorithms(torch)
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = benchmark, deterministic
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:  # setting it changes how MKL chooses, even to what it is
            torch.set_num_threads(threads)
        if _deterministic_algorithms(torch) != algorithms:
            enabled, warn_only = algorithms
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        if workspace is None:
            os.environ.pop(CUBLAS_WORKSPACE, None)


def _deterministic_algorithms(torch: ModuleType) -> tuple[bool, bool]:
    """Whether they are required, and whether others only cause a warning."""
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
