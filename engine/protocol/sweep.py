"""Sweeps: several values of a flag in one command mean a run for each, and all combinations where several flags do."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

from distiller_zoo import options_of
from distiller_zoo.option_types import idle_options
from engine.protocol.flags import Several
from engine.protocol.idle_settings import check_options_act, say_idle_settings
from engine.protocol.method_flags import given_method_options
from engine.protocol.options import default_options
from engine.protocol.plan import RunPlan, SharedSettings
from engine.protocol.presets import read_preset
from engine.protocol.published_weights import with_paper_weights
from engine.protocol.recipe_flags import recipes_of_variants
from engine.protocol.recipes import Recipe
from engine.protocol.retrospection_plan import RetrospectionPlan, retrospection_of
from models import ModelEntry


def swept_flags(arguments: argparse.Namespace) -> set[str]:
    """The names of the flags that were given several values."""
    return {name for name, value in vars(arguments).items() if isinstance(value, Several)}


def variants(arguments: argparse.Namespace) -> list[argparse.Namespace]:
    """The command's flags with one value each, in all combinations of those that were given several."""
    given = vars(arguments)
    names = [name for name in given if isinstance(given[name], Several)]
    return [
        argparse.Namespace(**given | dict(zip(names, values, strict=True)))
        for values in product(*(given[name] for name in names))
    ]


class Variant(NamedTuple):
    """One value of each flag of a command that sweeps.

    Attributes:
        options: of methods, those given, by name.
        recipes: of each network, by its name.
    """

    arguments: argparse.Namespace
    options: dict[str, Any]
    recipes: dict[str, Recipe]
    retrospection: RetrospectionPlan | None

    def settings(self, shared: SharedSettings) -> SharedSettings:
        """The settings that all runs share, with those of this variant."""
        return replace(
            shared,
            given_options=self.options,
            kd_T=self.arguments.kd_T,
            teacher_weighting=self.arguments.teacher_weighting,
            retrospection=self.retrospection,
        )


def read_variants(arguments: argparse.Namespace, methods: list[str], models: Mapping[str, ModelEntry]) -> list[Variant]:
    """What each variant of a command gives methods and recipes.

    Raises:
        RequestError: a value is invalid, or acts in none of the runs.
    """
    each = variants(arguments)
    recipes = recipes_of_variants(each, models)
    return [
        Variant(
            one,
            given_method_options(one, methods),
            of_models,
            retrospection_of(one, of_models.values()),
        )
        for one, of_models in zip(each, recipes, strict=True)
    ]


def checked_plans(plans: list[RunPlan], arguments: argparse.Namespace) -> list[RunPlan]:
    """The plans of a command, each run once, with --paper_weights where that is given.

    Raises:
        RequestError: an option acts in none of the runs.
    """
    preset = getattr(arguments, "preset", None)
    given = [name for name, value in vars(arguments).items() if value is not None]
    check_options_act(plans, given, read_preset(preset).flags if preset else ())
    if arguments.paper_weights:
        plans = with_paper_weights(plans, given)
    plans = without_repetitions(plans, swept_flags(arguments))
    say_idle_settings(plans, arguments)
    return plans


def without_repetitions(plans: Iterable[RunPlan], swept: Iterable[str] = ()) -> list[RunPlan]:
    """The plans, each run once: values of a flag that a method does not have, or cannot read, make no further runs.

    Args:
        swept: the flags that were given several values.
    """
    swept = set(swept)
    plans = (_without_idle(plan, swept) for plan in plans)
    return list({plan.run_id: plan for plan in plans}.values())


def _without_idle(plan: RunPlan, swept: set[str]) -> RunPlan:
    """The plan with the defaults of those swept options that cannot act beside its others."""
    idle = [
        name
        for name in idle_options(plan.options, options_of(plan.method), len(plan.teachers))
        if name.split(".")[-1] in swept
    ]
    if not idle:
        return plan
    default = default_options(plan.method, plan.recipe)
    return replace(plan, options=plan.options | {name: default[name] for name in idle})
