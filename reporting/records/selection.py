"""Runs with the figure that tables show of them: the test accuracy of the last epoch, or of another one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reporting.records.run import Accuracy, Run, Skipped
from reporting.records.untrusted_json import percentage_or_none

SELECTIONS = ("last", "best", "validation")
LEFT_OUT = "left out"


@dataclass(frozen=True)
class Entry:
    """A run with the accuracy that tables show of it.

    Attributes:
        figure: test accuracy of the epoch that `--select` chooses.
        group: what `--by` puts the run under, such as "recipe.epochs = 240"; "" without it.
        validation: top-1 (%) of that epoch on the held-out images; None where none is on record.
    """

    run: Run
    figure: Accuracy
    group: str = ""
    validation: float | None = None

    @property
    def place(self) -> tuple[str, int, int, str, str]:
        """Returns what runs must share to be compared: data set, classes, image size, group and protocol."""
        run = self.run
        group = ", ".join(filter(None, (self.group, run.data_group)))
        return run.dataset, run.num_classes, run.image_size, group, run.protocol_id

    @property
    def row(self) -> tuple:
        """Returns what repetitions of one another share."""
        return *self.place, self.run.kind, self.run.teacher, self.run.model, self.run.label

    @property
    def name(self) -> str:
        """Returns a name for notes, such as "kd, resnet56 → resnet20 on cifar100"."""
        run = self.run
        if run.kind == "teacher":
            return f"{run.model} on {run.dataset}"
        if run.kind == "probe":
            return f"frozen {run.model} trained by {run.label}, on {run.dataset}"
        return f"{run.label}, {run.teacher + ' → ' if run.teacher else ''}{run.model} on {run.dataset}"


def select_epochs(runs: Iterable[Run], selection: str) -> tuple[list[Entry], list[Skipped]]:
    """Returns the runs with the accuracy of the chosen epoch, and the runs that have no such accuracy.

    Args:
        selection: "last" for the last epoch, "best" for the epoch that is best on the test set, "validation" for the
            first epoch that is best on the images held out of the training set.
    """
    entries, left_out = [], []
    for run in runs:
        entry, reason = _best_by_validation(run) if selection == "validation" else (_entry(run, selection), "")
        if entry is None:
            left_out.append(Skipped(run.path, LEFT_OUT, reason))
        else:
            entries.append(entry)
    return entries, left_out


def entries_of(runs: Iterable[Run]) -> list[Entry]:
    """Returns the runs with the last epoch's accuracy as their figure, in one group."""
    return [Entry(run, run.last) for run in runs]


def _entry(run: Run, selection: str) -> Entry:
    """Returns the run with the accuracy of its last epoch, or of the first one that is best on the test set."""
    figure = run.best if selection == "best" else run.last
    if not run.held_out_images:
        return Entry(run, figure)
    tests = run.history()
    epoch = max(tests, key=tests.__getitem__, default=run.epochs) if selection == "best" else run.epochs
    return Entry(run, figure, validation=run.history("validation").get(epoch))


def _best_by_validation(run: Run) -> tuple[Entry | None, str]:
    """Returns the run with the accuracies of the epoch; where there is none, None and the reason."""
    by_epoch = {line["epoch"]: line for line in run.metrics() if isinstance(line.get("epoch"), int)}
    validation = {epoch: found.top1 for epoch, line in by_epoch.items() if (found := _accuracy(line, "validation"))}
    if not validation:
        return None, "no validation accuracy on record (train with --validation N)"
    epochs = range(1, run.epochs + 1) or sorted(by_epoch)
    if any(epoch not in validation for epoch in epochs):
        return None, "some epochs have no validation accuracy on record"
    chosen = max(epochs, key=validation.__getitem__)
    test = _accuracy(by_epoch[chosen], "test")
    if test is None:
        return None, "the epoch chosen has no test accuracy on record"
    return Entry(run, test, validation=validation[chosen]), ""


def _accuracy(line: Mapping[str, Any], part: str) -> Accuracy | None:
    measured = line.get(part)
    if not isinstance(measured, dict):
        return None
    top1 = percentage_or_none(measured.get("top1"))
    others = (percentage_or_none(measured.get(name)) for name in ("top5", "balanced"))
    return None if top1 is None else Accuracy(top1, *others)
