"""Optimizers and learning rates from a recipe; the rate is a function of the position alone, so it needs no state."""

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import nn

from engine.protocol.recipes import Recipe
from models import Network

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def learning_rate(recipe: Recipe, epoch: int, progress: float = 0.0) -> float:
    """The learning rate in epoch `epoch` (from 1), of which `progress` (0 ≤ p < 1) is done."""
    if recipe.schedule == "step":
        passed = bisect_left(sorted(recipe.lr_decay_epochs), epoch)  # how many lie before this epoch
        return recipe.learning_rate * recipe.lr_decay_rate**passed
    time = epoch - 1 + progress
    if time < recipe.warmup_epochs:
        return recipe.warmup_lr + (recipe.learning_rate - recipe.warmup_lr) * time / recipe.warmup_epochs
    share = (time - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return recipe.min_lr + (recipe.learning_rate - recipe.min_lr) * (1 + math.cos(math.pi * share)) / 2


def make_optimizer(recipe: Recipe, modules: Iterable[nn.Module]) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over all parameters of the modules (student and method), in their order.

    With `layer_decay` the parameters of a layer of the student have groups of their own, from the classifier down, with
    the share of the learning rate in `rate_factor`.
    """
    modules = list(modules)
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = _groups(recipe, modules, parameters)
    if recipe.layer_decay != 1:
        groups = [part for group in groups for part in _by_layer(group, recipe.layer_decay, _heights(modules))]
        groups.sort(key=lambda group: -group["rate_factor"])  # the first group's rate is the one on record
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, fused=True)


def _groups(recipe: Recipe, modules: list[nn.Module], parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    if recipe.decay_everything:
        return [{"params": parameters, "weight_decay": recipe.weight_decay}]
    decaying = set().union(*map(_decaying, modules))
    return [
        {"params": [p for p in parameters if p in decaying], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p not in decaying], "weight_decay": 0.0},
    ]


def _heights(modules: Iterable[nn.Module]) -> dict[nn.Parameter, int]:
    """How many layers lie between each parameter of the networks among the modules and the classifier."""
    heights: dict[nn.Parameter, int] = {}
    for network in (module for module in modules if isinstance(module, Network)):
        depths, named = network.parameter_depths(), dict(network.named_parameters())
        heights |= {named[name]: max(depths.values()) - depth for name, depth in depths.items()}
    return heights


def _by_layer(group: dict[str, Any], factor: float, heights: dict[nn.Parameter, int]) -> list[dict[str, Any]]:
    """The parameters of a group in groups by their layer; those of a method have the full rate."""
    layers: dict[int, list[nn.Parameter]] = {}
    for parameter in group["params"]:
        layers.setdefault(heights.get(parameter, 0), []).append(parameter)
    return [{**group, "params": params, "rate_factor": factor**height} for height, params in layers.items()]


def _decaying(module: nn.Module) -> set[nn.Parameter]:
    """Weights of linear layers and convolutions; not biases, norms, tokens, scales and what `no_weight_decay()` names.

    A bare parameter of two or four dimensions counts as such a weight: CycleFC and VkD's projection have some.
    """
    weights = {part.weight for part in module.modules() if isinstance(part, LAYERS)}
    listed: Callable[[], Collection[str]] = getattr(module, "no_weight_decay", tuple)
    spared = listed()
    return {p for name, p in module.named_parameters() if (p in weights or p.ndim in (2, 4)) and name not in spared}
