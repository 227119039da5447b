"""Finds out which network a checkpoint is of: by its content, by its name, and by what would fit."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch

from common.errors import RequestError
from common.seeds import isolated_seed
from engine.checkpoints.find_weights import fits
from engine.checkpoints.parts_of_file import Wanted
from engine.checkpoints.read_checkpoint import is_own_file
from models import MODELS, create_model

MOST_NAMED = 3


def find_arch(arch: str | None, content: Any, path: Path, flag: str, image_size: int) -> str:
    """Name of the network that a checkpoint holds: `arch` if given, else from its content, else from its file name.

    Args:
        flag: that names the network, for the message.
        image_size: of the images that it is given.

    Raises:
        RequestError: none of them gives a registered network.
    """
    if arch is not None:
        return MODELS.canonical(arch)
    named = content.get("arch") if isinstance(content, dict) else None
    if isinstance(named, str) and (is_own_file(content) or named in MODELS):
        return MODELS.canonical(named)
    for name in (path.stem, path.resolve().parent.name):
        mentioned = set(_models_in(name))
        if len(mentioned) == 1:
            return mentioned.pop()
    advice = f"name it with {flag}{_suggested(content, image_size)}"
    raise RequestError(f"neither {path} nor its name gives the network; {advice}")


def _suggested(content: Any, image_size: int) -> str:
    if fitting := fitting_networks(content, image_size):
        return f" (its weights fit {' or '.join(fitting)})"
    named = content.get("arch") if isinstance(content, dict) else None
    if isinstance(named, str) and len(named) < 100 and f"timm:{named}" in MODELS:
        return f" (it calls itself {named!r}, which may be timm:{named})"
    return ""


def fitting_networks(content: Any, image_size: int) -> list[str]:
    """Registered networks that the weights in a file fit, for any number of classes."""
    wanted = _wanted_by_networks(image_size)
    return [name for name, (entries, head) in wanted.items() if fits(content, entries, head)][:MOST_NAMED]


@cache
def _wanted_by_networks(image_size: int) -> dict[str, tuple[Wanted, str]]:
    """The entries of each registered network, and its classifier's name; built without memory for weights."""
    found = {}
    for name in MODELS:
        try:
            with isolated_seed(0), torch.device("meta"):
                network = create_model(name, image_size=image_size)
        except Exception:  # takes no images of this size, or needs real tensors to be built
            continue
        found[name] = Wanted.by(network), network.classifier_name
    return found


def _models_in(text: str) -> Iterator[str]:
    """Registered networks that appear in a file name such as cifar100_resnet56-f2eff4c8 or wrn_40_2_vanilla."""
    names = {name: name for name in MODELS}
    names |= {alias: name for name in MODELS for alias in MODELS.aliases_of(name)}
    for name in sorted(names, key=len, reverse=True):
        pattern = rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"
        if re.search(pattern, text):
            yield names[name]
            text = re.sub(pattern, " ", text)
