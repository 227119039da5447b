"""The options of a method in a run: published defaults, adapted to a short run, and what the user gave."""

from collections.abc import Mapping
from typing import Any

from distiller_zoo import options_of
from distiller_zoo.option_types import counts_epochs
from engine.protocol.recipes import Recipe

DEFAULT_KD_T = 4.0  # temperature of the KL term, which any method may have


def default_options(method: str, recipe: Recipe) -> dict[str, Any]:
    """All options of a method at their defaults.

    Options that count epochs (DKD's warm-up of 20, an initial stage of 30) are published for the recipe's full length.
    A shorter run takes the same share of its own length, at least one epoch; otherwise it would end within the warm-up.
    """
    return {
        name: _share(parameter.default, recipe.share) if counts_epochs(parameter.annotation) else parameter.default
        for name, parameter in options_of(method).items()
    }


def resolve_options(method: str, recipe: Recipe, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a method: `given` values unchanged, the others at their defaults.

    Given options that the method does not have are left out.
    """
    return {
        name: _given_or(default, given.get(name.split(".")[-1]))  # METHOD.OPTION in a combination
        for name, default in default_options(method, recipe).items()
    }


def _share(epochs: int, share: float) -> int:
    return max(1, round(epochs * share)) if epochs else 0


def _given_or(default: Any, given: Any) -> Any:
    # 1.0 in place of a default 1 would make another run of the same thing.
    return default if given is None or given == default else given
