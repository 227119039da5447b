"""`--paper_weights`: what papers give for single pairs of networks, taken and said, run by run."""

from collections.abc import Collection, Sequence

from common.command import say
from distiller_zoo.published_settings import published_for
from engine.protocol.plan import RunPlan

# What every row of distiller_zoo/published.csv was tuned on.
DATASET = "cifar100"


def with_paper_weights(plans: Sequence[RunPlan], given: Collection[str]) -> list[RunPlan]:
    """The plans with the weights and options that papers give for their pairs; one line says what each method got.

    Args:
        given: names of what the user gave, which stays (`RunPlan.as_published`).
    """
    dataset = plans[0].dataset
    if dataset != DATASET:
        say(f"--paper_weights: papers give them for {DATASET}; on {dataset} nothing is changed")
        return list(plans)
    changed, lines, nothing = [], [], {}
    for plan in plans:
        teachers = [teacher.model for teacher in plan.teachers]
        pair = f"{' + '.join(teachers)} → {plan.model}"
        found = published_for(plan.method, teachers, plan.model)
        if found is not None:
            values = found.weights | found.options
            taken = ", ".join(f"{name}={value}" for name, value in values.items() if name not in given)
            lines.append(f"{plan.method}, {pair}: {taken or 'nothing, for all was given'} ({found.source})")
            plan = plan.as_published(given)
        elif teachers:
            nothing.setdefault(pair, []).append(plan.method)
        changed.append(plan)
    for pair, methods in nothing.items():
        lines.append(f"{', '.join(dict.fromkeys(methods))}, {pair}: nothing is published; the defaults stay")
    for line in dict.fromkeys(lines):
        say(f"--paper_weights: {line}")
    return changed
