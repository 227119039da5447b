"""Which epoch's test accuracy is the figure of a table: the last one's unless someone asks for another."""

import dataclasses
from collections.abc import Iterable

from reporting.records.runs import Run, Skipped
from reporting.records.untrusted_json import percentage_or_none

SELECTIONS = ("last", "best", "validation")
LEFT_OUT = "left out"


def select_epochs(runs: Iterable[Run], selection: str) -> tuple[list[Run], list[Skipped]]:
    """The runs with their figure set, and those that do not have such a figure.

    "last" is the last epoch, "best" the one that is best on the test set itself, "validation" the first one that is
    best on the images that a run held out of its training set.
    """
    found, left_out = [], []
    for run in runs:
        figure, reason = _figure(run, selection)
        if reason:
            left_out.append(Skipped(run.path, LEFT_OUT, reason))
        else:
            found.append(dataclasses.replace(run, selection=selection, figure=figure))
    return found, left_out


def _figure(run: Run, selection: str) -> tuple[tuple[float, float | None] | None, str]:
    """(top-1, top-5), and why there is none."""
    if selection == "last":
        return None, ""
    if selection == "best":
        return (run.best_top1, run.best_top5), ""
    by_epoch = {line["epoch"]: line for line in run.metrics() if isinstance(line.get("epoch"), int)}
    accuracy = {epoch: _top1(line, "validation") for epoch, line in by_epoch.items()}
    if all(value is None for value in accuracy.values()):
        return None, "no validation accuracy on record (train with --validation N)"
    epochs = range(1, run.epochs + 1) or sorted(by_epoch)
    if any(accuracy.get(epoch) is None for epoch in epochs):
        return None, "some epochs have no validation accuracy on record"
    test = by_epoch[max(epochs, key=accuracy.__getitem__)].get("test")
    top1 = _top1({"test": test}, "test")
    if top1 is None:
        return None, "the epoch chosen has no test accuracy on record"
    return (top1, percentage_or_none(test.get("top5"))), ""


def _top1(line: dict, part: str) -> float | None:
    value = line.get(part)
    return percentage_or_none(value.get("top1")) if isinstance(value, dict) else None
