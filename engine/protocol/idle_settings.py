"""Given settings that cannot act: refused where they act in no run of the command, else named in a line."""

import argparse
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from common.command import say
from common.errors import RequestError
from distiller_zoo import method_class, options_of
from distiller_zoo.option_types import idle_options
from distiller_zoo.published_settings import published_pairs
from engine.protocol.flags import Several
from engine.protocol.options import DEFAULT_KD_T, default_options
from engine.protocol.plan import RunPlan

LEAST_BATCH = 16  # a whole weight from here on may be meant as a batch size


def check_weights_act(methods: Sequence[str], arguments: argparse.Namespace) -> None:
    """Name the methods that a given --alpha or --beta does not reach.

    Raises:
        RequestError: it reaches none of them.
    """
    # RepDistiller's command lines give 0 for a loss that is not there.
    if arguments.beta is not None and any(arguments.beta):
        without = [method for method in methods if not method_class(method).weights.beta]
        _say_or_refuse("--beta", "weighs a method's own loss", without, methods, _instead_of_beta(without, arguments))
    if arguments.alpha is not None and any(arguments.alpha):
        without = [method for method in methods if not method_class(method).max_teachers]
        _say_or_refuse("--alpha", "weighs the KL term to the teacher", without, methods, "; leave it out")
    if note := _batch_size_note(methods, arguments):
        say(note)


def _say_or_refuse(flag: str, does: str, without: list[str], methods: Sequence[str], advice: str) -> None:
    if without and len(without) == len(methods):
        raise RequestError(
            f"{flag} {does}, and {_listed(without)} {'has' if len(without) == 1 else 'have'} none{advice}"
        )
    if without:
        say(f"{flag} {does}: without effect on {_listed(without)}")


def _instead_of_beta(methods: Iterable[str], arguments: argparse.Namespace) -> str:
    kl = [method for method in methods if method_class(method).weights.alpha]
    instead = f"; the weight of {_listed(kl)} is --alpha" if kl else "; leave it out"
    return f"{instead} (the batch size is --batch_size)" if _like_batch_size(arguments) else instead


def _like_batch_size(arguments: argparse.Namespace) -> bool:
    """True for one whole --beta of the size of a batch where no --batch_size is given."""
    if arguments.beta is None or len(arguments.beta) != 1 or hasattr(arguments, "batch_size"):
        return False
    return arguments.beta[0] >= LEAST_BATCH and arguments.beta[0].is_integer()


def _batch_size_note(methods: Iterable[str], arguments: argparse.Namespace) -> str:
    """Ask whether the batch size was meant; "" where the weight is published for one of the methods."""
    if not _like_batch_size(arguments):
        return ""
    (beta,) = arguments.beta
    own = {method: method_class(method).weights.beta for method in methods if method_class(method).weights.beta}
    published = {*own.values(), *(pair.weights.get("beta") for pair in published_pairs() if pair.method in own)}
    if not own or beta in published:
        return ""
    usual = ", ".join(f"{method} {weight:g}" for method, weight in list(own.items())[:3])
    return f"-b {beta:g} is the weight of the method's own loss (published: {usual}); the batch size is --batch_size"


def check_options_act(plans: Sequence[RunPlan], given: Iterable[str], from_preset: Collection[str]) -> None:
    """Raise RequestError for an option that acts in no run, because it needs another one beside it.

    A value that is the default anyway does no harm, nor does one of a preset, whose other flags were overridden.

    Args:
        given: names of all flags that were given.
        from_preset: names of the flags that the preset of the command gives.
    """
    for option in given:
        needed = {_needed(option, plan) for plan in plans if _has(option, plan)}
        if needed and None not in needed and option not in from_preset:
            beside = " or ".join(sorted(map(str, needed)))
            raise RequestError(f"--{option} acts only with {beside}; add that, or leave --{option} out")


def _has(option: str, plan: RunPlan) -> bool:
    return any(name.split(".")[-1] == option for name in plan.options)


def _needed(option: str, plan: RunPlan) -> str | None:
    """The flag that an option of a run needs beside it; None if it acts, or has its default anyway."""
    default, idle = (
        default_options(plan.method, plan.recipe),
        idle_options(plan.options, options_of(plan.method), len(plan.teachers)),
    )
    names = [name for name in plan.options if name.split(".")[-1] == option]
    if any(name not in idle or plan.options[name] == default[name] for name in names):
        return None
    return idle[names[0]]


def say_idle_settings(plans: Sequence[RunPlan], arguments: argparse.Namespace) -> None:
    """Name settings of all methods that act in none of the runs, one line."""
    idle = []
    kd_T, weighting = (_values(arguments, name) for name in ("kd_T", "teacher_weighting"))
    if kd_T != [DEFAULT_KD_T] and not any(plan.weights.alpha for plan in plans):
        idle.append(f"--kd_T {' '.join(map(str, kd_T))} (no run has a KL term; methods have temperatures of their own)")
    if arguments.logit_standardization and not any(plan.teachers for plan in plans):
        idle.append("--logit_standardization (no run has a teacher)")
    if weighting != ["average"] and not any(len(plan.teachers) > 1 for plan in plans):
        idle.append(f"--teacher_weighting {' '.join(weighting)} (no run has several teachers)")
    named = [flag for flag in ("model_t", "path_t", "weights_key", "ema") if getattr(arguments, flag)]
    if named and not any(plan.teachers for plan in plans):
        idle.append(f"{', '.join(f'--{flag}' for flag in named)} (no run has a teacher)")
    if idle:
        say(f"without effect here: {'; '.join(idle)}")


def _values(arguments: argparse.Namespace, name: str) -> list[Any]:
    value = getattr(arguments, name)
    return list(value) if isinstance(value, Several) else [value]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
