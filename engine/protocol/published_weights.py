"""`--paper_weights`: weights and options that papers give for single pairs of networks."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from common.command import say
from distiller_zoo import method_class
from distiller_zoo.combination import CombinationSpec
from distiller_zoo.published_settings import published_for
from engine.protocol.plan import RunPlan, without_idle_settings

# What every row of distiller_zoo/published.csv was tuned on.
DATASET = "cifar100"


def published_by_default(method: str) -> bool:
    """True if a method's defaults come from published CIFAR-100 tables, which have them for all pairs without a row."""
    cls = method_class(method)
    return not isinstance(cls, CombinationSpec) and bool(cls.paper) and not cls.weights_from


def with_paper_weights(plans: Sequence[RunPlan], given: Collection[str]) -> list[RunPlan]:
    """The plans with the weights and options that papers give for their pairs; prints what each method got.

    Args:
        given: names of the values that the user gave, which are kept.
    """
    dataset = plans[0].dataset
    if dataset != DATASET:
        say(f"--paper_weights: papers give them for {DATASET}; on {dataset} nothing is changed")
        return list(plans)
    changed: list[RunPlan] = []
    lines: list[str] = []
    unpublished: dict[str, list[str]] = {}
    for plan in plans:
        teachers = [teacher.model for teacher in plan.teachers]
        pair = f"{' + '.join(teachers)} → {plan.model}"
        found = published_for(plan.method, teachers, plan.model)
        if found is not None:
            weights, options = (
                {name: value for name, value in values.items() if name not in given}
                for values in (found.weights, found.options)
            )
            taken = ", ".join(f"{name}={value}" for name, value in (weights | options).items())
            lines.append(f"{plan.method}, {pair}: {taken or 'nothing, all were given'} ({found.source})")
            plan = replace(plan, options=plan.options | options, weights=replace(plan.weights, **weights))
            plan = without_idle_settings(plan)
        elif teachers:
            unpublished.setdefault(pair, []).append(plan.method)
        changed.append(plan)
    for pair, methods in unpublished.items():
        methods = list(dict.fromkeys(methods))
        own = ", ".join(method for method in methods if published_by_default(method))
        none = ", ".join(method for method in methods if not published_by_default(method))
        parts = [f"the defaults of {own} are the published ones"] if own else []
        parts += [f"nothing is published for {none}, the defaults stay"] if none else []
        lines.append(f"{pair}: {'; '.join(parts)}")
    for line in dict.fromkeys(lines):
        say(f"--paper_weights: {line}")
    return changed
