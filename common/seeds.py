"""Independent random streams, each a function of (seed, purpose, indices) and of nothing else.

No stream depends on how often another was used, so the company that a run trains in does not
change it, and resuming needs no replay.
"""

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def derive_seed(seed: int, purpose: str, *indices: int) -> int:
    """A 63-bit seed for one purpose ("order", "negatives") at one place (epoch, step)."""
    text = "/".join([str(seed), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_generator(seed: int, purpose: str, *indices: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device`, seeded with `derive_seed`."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, purpose, *indices))


@contextlib.contextmanager
def isolated_seed(seed: int) -> Iterator[None]:
    """Torch's global generator of the CPU, seeded within the block and afterwards as it was before."""
    with torch.random.fork_rng(devices=[]):  # networks are built on the CPU
        torch.manual_seed(seed)
        yield
