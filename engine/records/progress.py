"""The output of a running command: a progress bar in a terminal, and one line per epoch and run."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from engine.protocol.plan import RunPlan

Item = TypeVar("Item")


class Progress:
    """Shows a bar on stderr if that is a terminal, and prints lines on stdout.

    Args:
        silent: for processes that train along with the one that prints.
    """

    def __init__(self, silent: bool = False) -> None:
        self._silent = silent

    def bar(self, steps: Iterable[Item], what: str, total: int, first: int = 0) -> Iterable[Item]:
        """Return the steps of an epoch, with a bar that moves while they are taken.

        Args:
            what: text before the bar.
            total: number of steps of a whole epoch.
            first: number of steps that were taken before.
        """
        if self._silent or not sys.stderr.isatty():
            return steps
        return tqdm(steps, desc=what, total=total, initial=first, unit="step", leave=False)

    def epoch(self, plan: RunPlan, record: dict[str, Any], best: dict[str, Any]) -> None:
        """Print the line of an epoch, with the best test accuracy so far, and the accuracy on images held out."""
        train, test = record["train"], record["test"]
        held_out = f"validation {record['validation']['top1']:.2f}  " if "validation" in record else ""
        self.line(
            f"epoch {record['epoch']}/{plan.recipe.epochs}  {plan.model}  {plan.label}  "
            f"loss {train['loss']:.3f}  train {train['top1']:.2f}  {held_out}test {test['top1']:.2f}  "
            f"best {best['test']['top1']:.2f}  {record['seconds']:.1f} s"
        )

    def initial_epoch(self, plan: RunPlan, record: dict[str, Any]) -> None:
        """Print the line of an epoch of the initial stage."""
        where = f"initial epoch {record['epoch']}/{record['epochs']}  {plan.model}  {plan.label}"
        self.line(f"{where}  loss {record['train']['loss']:.3f}  {record['seconds']:.1f} s")

    def line(self, text: str) -> None:
        """Print a line on stdout."""
        self._write(text, sys.stdout)
        sys.stdout.flush()

    def error(self, text: str) -> None:
        """Print an error on stderr."""
        self._write(f"error: {text}", sys.stderr)

    def warning(self, text: str) -> None:
        """Print a warning on stderr."""
        self._write(f"warning: {text}", sys.stderr)

    def _write(self, text: str, file: TextIO) -> None:
        if not self._silent:
            tqdm.write(text, file=file)
