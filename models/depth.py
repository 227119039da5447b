"""How deep each parameter of a network lies, for learning rates by layer."""

from collections.abc import Iterable

from torch import nn

CONTAINERS = (nn.ModuleList, nn.Sequential)


def depths_by_module(network: nn.Module) -> dict[str, int]:
    """Return the layer of each parameter by its name: 0 at the images, the largest for the classifier.

    A layer is a stage, where the network has several containers of blocks, and a block, where all of them are in one.
    What has no weights of its own to mix channels or positions with, such as a norm or a token, belongs to the layer
    before it.
    """
    containers = [
        name for name, part in network.named_children() if isinstance(part, CONTAINERS) and _holds_blocks(part)
    ]
    of_blocks = containers[0] if len(containers) == 1 else None
    keys: dict[str, list[str]] = {}
    weighted: set[str] = set()
    for name, parameter in network.named_parameters():
        parts = name.split(".")
        key = ".".join(parts[: 2 if parts[0] == of_blocks else 1])
        keys.setdefault(key, []).append(name)
        if parameter.ndim in (2, 4):
            weighted.add(key)
    depths: dict[str, int] = {}
    depth, begun = 0, False
    for key, names in keys.items():
        if key in weighted and begun:
            depth += 1
        begun = begun or key in weighted
        depths |= dict.fromkeys(names, depth)
    return depths


def _holds_blocks(container: nn.Module) -> bool:
    """True for a container of modules that have parts of their own, unlike one that is a single layer and its norm."""
    parts: Iterable[nn.Module] = container.children()
    return any(next(part.children(), None) is not None for part in parts)
