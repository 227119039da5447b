"""The output of a running command: a progress bar in a terminal, and one line per epoch and run."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from common.command import explained_output_errors
from engine.protocol.plan import RunPlan
from engine.records.time_left import TimeLeft

Item = TypeVar("Item")


class Bar(tqdm):
    """A bar that also shows the time left of the whole command. It is computed when the bar is drawn, not at a step."""

    time_left: TimeLeft | None = None

    @property
    def format_dict(self) -> dict[str, Any]:
        return {**super().format_dict, "postfix": self.time_left.long() if self.time_left else ""}


class Progress:
    """Shows a bar on stderr if that is a terminal, and prints lines on stdout.

    Args:
        silent: for processes that train along with the one that prints.

    Attributes:
        time_left: the clock of a training command.
        group: which of its runs train now, as "run 3 of 144"; "" if all do.
        names: what runs are called, by their hash, where that is not their network and method (`names.distinct_names`).
    """

    def __init__(self, silent: bool = False) -> None:
        self._silent = silent
        self.time_left: TimeLeft | None = None
        self.group = ""
        self.names: dict[str, str] = {}

    def bar(
        self, steps: Iterable[Item], what: str, total: int, first: int = 0, unit: str = "step"
    ) -> AbstractContextManager[Iterable[Item]]:
        """Give the steps of an epoch or a test to a `with` block, with a bar that moves while they are taken.

        The bar disappears with the end of the block, also by an exception: what is printed next has its own line.

        Args:
            what: text before the bar.
            total: number of steps of a whole epoch.
            first: number of steps that were taken before.
        """
        if self._silent or sys.stderr is None or not sys.stderr.isatty():
            return nullcontext(steps)
        bar = Bar(steps, desc=what, total=total, initial=first, unit=unit, leave=False)
        if self.time_left is not None:
            bar.time_left = self.time_left
            bar.set_description(f"{self.group}, {what}" if self.group else what)
        return bar

    def watched(self, steps: Iterable[Item], what: str, total: int, unit: str = "step") -> Iterator[Item]:
        """Yield the steps of a loop without a `with` block of its own, with the bar of `bar`."""
        with self.bar(steps, what, total, unit=unit) as shown:
            yield from shown

    def epoch(self, plan: RunPlan, record: dict[str, Any], best: dict[str, Any]) -> None:
        """Print the line of an epoch, with the best test accuracy so far, and the accuracy on images held out."""
        train, test = record["train"], record["test"]
        held_out = f"validation {record['validation']['top1']:.2f}  " if "validation" in record else ""
        accuracy = f"train {train['top1']:.2f}  " if "top1" in train else ""  # not where no image has a label
        self.line(
            f"epoch {record['epoch']}/{plan.recipe.epochs}  {self.name(plan)}  "
            f"loss {train['loss']:.3f}  {accuracy}{held_out}test {test['top1']:.2f}  "
            f"best {best['test']['top1']:.2f}  {self._times(record)}"
        )

    def initial_epoch(self, plan: RunPlan, record: dict[str, Any]) -> None:
        """Print the line of an epoch of the initial stage."""
        where = f"initial epoch {record['epoch']}/{record['epochs']}  {self.name(plan)}"
        self.line(f"{where}  loss {record['train']['loss']:.3f}  {self._times(record)}")

    def name(self, plan: RunPlan) -> str:
        """What a run is called among the runs of the command."""
        return self.names.get(plan.run_id, plan.console_name)

    def _times(self, record: dict[str, Any]) -> str:
        """The seconds of an epoch, and the time that the command still takes."""
        left = "" if self.time_left is None else self.time_left.short()
        return f"{record['seconds']:.1f} s" + (f"  {left}" if left else "")

    def begin_group(self, first: int, last: int, runs: int) -> None:
        """Say which of several groups of runs train now, counted from 1."""
        self.group = f"run {first} of {runs}" if first == last else f"runs {first} to {last} of {runs}"
        self.line(self.group)

    def line(self, text: str) -> None:
        """Print a line on stdout.

        Raises:
            RunError: it cannot be written to.
            BrokenPipeError: nobody reads it any more.
        """
        with explained_output_errors():
            self._write(text, sys.stdout)

    def error(self, text: str) -> None:
        """Print an error on stderr, if that can be written to."""
        with suppress(OSError):
            self._write(f"error: {text}", sys.stderr)

    def warning(self, text: str) -> None:
        """Print a warning on stderr, if that can be written to."""
        with suppress(OSError):
            self._write(f"warning: {text}", sys.stderr)

    def _write(self, text: str, file: TextIO | None) -> None:
        if not self._silent and file is not None:  # None: closed by the caller of the script
            tqdm.write(text, file=file)
            file.flush()
