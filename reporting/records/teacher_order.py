"""Keeps apart runs of one network that learned from other teachers: in another order, or from other checkpoints.

config.json says in `teacher_order_matters` whether the method gave each of several teachers its own place. Records
without it are taken to be as others of their method and options; without such others the order counts, unless β is 0:
then several teachers act by their mean prediction alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from reporting.records.run import Run
from reporting.records.settings import row_of, with_words


def apart_by_teachers(runs: Iterable[Run]) -> list[Run]:
    """Returns the runs with `names_checkpoints` set, and the order of their teachers in the label, where it takes that.

    A trial that was run with one checkpoint and with another of the same networks is no repetition of itself: the two
    are of pairs of their own. Trials that each have a checkpoint of their own are repetitions.
    """
    return _apart_by_order(_apart_by_checkpoint(list(runs)))


def _apart_by_checkpoint(runs: list[Run]) -> list[Run]:
    used: dict[tuple, dict[tuple, set[tuple]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        if run.teachers:
            used[_pair(run)][run.label, run.method, run.trial, run.seed].add(_checkpoints(run))
    several = {pair for pair, trials in used.items() if any(len(found) > 1 for found in trials.values())}
    return [replace(run, names_checkpoints=True) if run.teachers and _pair(run) in several else run for run in runs]


def _apart_by_order(runs: list[Run]) -> list[Run]:
    declared: dict[tuple, bool] = {}
    for run in runs:
        if isinstance(known := run.config.get("teacher_order_matters"), bool) and len(run.teachers) > 1:
            declared[_method(run)] = declared.get(_method(run), False) or known
    ordered = [len(run.teachers) > 1 and _order_matters(run, declared) for run in runs]
    orders: dict[tuple, set[tuple[str, ...]]] = defaultdict(set)
    for run, matters in zip(runs, ordered, strict=True):
        if matters:
            orders[_in_order(run)].add(tuple(teacher.sha256 for teacher in run.teachers))
    return [
        replace(run, label=with_words(run.label, {"teachers": _names(run, len(orders[_in_order(run)]) > 1)}))
        if matters
        else run
        for run, matters in zip(runs, ordered, strict=True)
    ]


def _order_matters(run: Run, declared: Mapping[tuple, bool]) -> bool:
    known = run.config.get("teacher_order_matters")
    if isinstance(known, bool):
        return known
    weights = run.config.get("weights")
    beta = weights.get("beta") if isinstance(weights, dict) else None
    return declared.get(_method(run), beta != 0)


def _names(run: Run, by_checkpoint: bool) -> str:
    """Returns the teachers in their order, with checkpoints where names do not tell two orders apart."""
    return ",".join(teacher.checkpoint if by_checkpoint else teacher.name for teacher in run.teachers).replace(" ", "_")


def _in_order(run: Run) -> tuple:
    """Returns what runs share that differ in the order of checkpoints at most: names in order, checkpoints in none."""
    return *row_of(run), tuple(teacher.name for teacher in run.teachers), _checkpoints(run)


def _checkpoints(run: Run) -> tuple[str, ...]:
    return tuple(sorted(teacher.sha256 for teacher in run.teachers))


def _pair(run: Run) -> tuple:
    return run.dataset, run.num_classes, run.image_size, run.data_group, run.protocol_id, run.teacher, run.model


def _method(run: Run) -> tuple[Any, ...]:
    return run.method, repr(run.config.get("options"))
