"""All tensors in the content of a checkpoint, by their full names: the keys on the way to each, joined by dots."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from engine.checkpoints.harmless_types import NumberArray

DEEPEST, MOST_TENSORS = 8, 100_000
# Put into names by torch.compile, activation checkpointing, FSDP and (Distributed)DataParallel, also in their middle.
WRAPPERS = {"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "module"}
# Left behind by thop, by torch's AveragedModel and by packages for averaged weights.
COUNTERS = {"total_ops", "total_params", "total_flops", "total_macs", "n_averaged", "num_updates", "initted", "decay"}
AVERAGED = re.compile(r"(^|[_-])(ema|swa|avg|averaged?|polyak)($|[_-])", re.IGNORECASE)


@dataclass(frozen=True)
class Held:
    """A tensor in a file.

    Attributes:
        place: the keys of the dictionaries around it, each followed by a dot.
        raw_name: full name with the wrappers in it.
    """

    place: str
    raw_name: str
    value: Tensor

    @property
    def shape(self) -> torch.Size | None:
        """Its shape; None for a list of tensors of several shapes."""
        return None if self.value.is_nested else self.value.shape

    def is_weight(self) -> bool:
        """True for a tensor that makes its dictionary look like weights: a matrix or more."""
        return self.value.is_nested or self.value.dim() > 1

    def is_counter(self) -> bool:
        """True for what counting tools leave beside the weights of a layer: an integer, or a number of a known name."""
        if self.shape is None or self.value.layout != torch.strided or self.value.numel() > 1:
            return False
        last = self.raw_name.rpartition(".")[2].strip("_")
        return last in COUNTERS or (self.value.dtype in _INTEGERS and last not in ("weight", "bias"))


_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def tensors_in(content: Any, kept: frozenset[str] = frozenset()) -> dict[str, Held]:
    """All tensors of a file by their full names without wrappers; those of optimizers are left out.

    Args:
        kept: parts of names that are no wrappers here, because the network has them.
    """
    found: dict[str, Held] = {}
    seen: set[int] = set()
    places: list[tuple[str, Any, int]] = [("", content, 0)]
    while places:
        place, container, depth = places.pop(0)
        if id(container) in seen:  # two names of one dictionary, or one that holds itself
            continue
        seen.add(id(container))
        for key, value in islice(_items(container), MOST_TENSORS - len(found)):
            value = value.tensor if isinstance(value, NumberArray) else value
            if isinstance(value, Tensor):
                name = ".".join(part for part in str(key).split(".") if part not in WRAPPERS - kept)
                found.setdefault(place + name, Held(place, f"{place}{key}", value))
            elif depth < DEEPEST and not _is_optimizer(key, value, container):
                places.append((f"{place}{key}.", value, depth + 1))
    return found


def _items(container: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(container, Mapping):
        yield from container.items()
    elif isinstance(container, list | tuple):
        yield from enumerate(container)


def _is_optimizer(key: Any, value: Any, container: Any) -> bool:
    """True for the state of an optimizer, or that of one of its parameters, which it counts."""
    if not isinstance(value, Mapping):
        return False
    of_parameter = isinstance(container, Mapping) and type(key) is int and not any("." in str(name) for name in value)
    return of_parameter or value.keys() >= {"state", "param_groups"} or str(key).lower().startswith("optim")


def is_averaged(prefix: str) -> bool:
    """True if the keys of a prefix call the weights behind it averaged (EMA, SWA)."""
    return any(AVERAGED.search(part) for part in prefix.split("."))
