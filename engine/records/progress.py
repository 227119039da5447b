"""The output of a running command: a progress bar in a terminal, and one line per epoch and run."""

import sys
from typing import Any, TextIO

from tqdm import tqdm

from engine.protocol.plan import RunPlan


class Progress:
    """Shows a bar on stderr if that is a terminal, and prints lines on stdout.

    Args:
        silent: for processes that train along with the one that prints.
    """

    def __init__(self, silent: bool = False) -> None:
        self._silent = silent
        self._bar: tqdm | None = None

    def begin(self, epoch: int, epochs: int, steps: int, first_step: int) -> None:
        """Start the bar of an epoch; epochs of an initial stage count up to 0."""
        if sys.stderr.isatty() and not self._silent:
            where = f"epoch {epoch}/{epochs}" if epoch > 0 else f"{1 - epoch} initial epochs to go"
            self._bar = tqdm(total=steps, initial=first_step, desc=where, unit="step", leave=False)

    def advance(self) -> None:
        """Move the bar by a step."""
        if self._bar is not None:
            self._bar.update()

    def end(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

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
