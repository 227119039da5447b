"""The output of a running command: a progress bar in a terminal, and one line per epoch and run."""

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from common.command import explained_output_errors
from engine.protocol.plan import RunPlan

Item = TypeVar("Item")


class Progress:
    """Shows a bar on stderr if that is a terminal, and prints lines on stdout.

    Args:
        silent: for processes that train along with the one that prints.
    """

    def __init__(self, silent: bool = False) -> None:
        self._silent = silent

    def bar(
        self, steps: Iterable[Item], what: str, total: int, first: int = 0
    ) -> AbstractContextManager[Iterable[Item]]:
        """Give the steps of an epoch to a `with` block, with a bar that moves while they are taken.

        The bar disappears with the end of the block, also by an exception: what is printed next has its own line.

        Args:
            what: text before the bar.
            total: number of steps of a whole epoch.
            first: number of steps that were taken before.
        """
        if self._silent or sys.stderr is None or not sys.stderr.isatty():
            return nullcontext(steps)
        return tqdm(steps, desc=what, total=total, initial=first, unit="step", leave=False)

    def epoch(self, plan: RunPlan, record: dict[str, Any], best: dict[str, Any]) -> None:
        """Print the line of an epoch, with the best test accuracy so far."""
        train, test = record["train"], record["test"]
        self.line(
            f"epoch {record['epoch']}/{plan.recipe.epochs}  {plan.model}  {plan.label}  "
            f"loss {train['loss']:.3f}  train {train['top1']:.2f}  test {test['top1']:.2f}  "
            f"best {best['test']['top1']:.2f}  {record['seconds']:.1f} s"
        )

    def initial_epoch(self, plan: RunPlan, record: dict[str, Any]) -> None:
        """Print the line of an epoch of the initial stage."""
        where = f"initial epoch {record['epoch']}/{record['epochs']}  {plan.model}  {plan.label}"
        self.line(f"{where}  loss {record['train']['loss']:.3f}  {record['seconds']:.1f} s")

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
