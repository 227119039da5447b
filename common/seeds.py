"""Independent random streams: each is a function of (seed, purpose, indices) and of nothing else.

No stream depends on how often another was used. So a run does not depend on the runs that train beside it, and resuming
needs no replay.
"""

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def derive_seed(seed: int, purpose: str, *indices: int) -> int:
    """Derive a 63-bit seed for one purpose ("order", "negatives") at one position (epoch, step)."""
    text = "/".join([str(seed), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_generator(seed: int, purpose: str, *indices: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Create a generator on `device`, seeded with `derive_seed(seed, purpose, *indices)`."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, purpose, *indices))


@contextlib.contextmanager
def isolated_seed(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator within the block and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):  # networks are built on the CPU
        torch.manual_seed(seed)
        yield
