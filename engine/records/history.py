"""The epochs of a run so far: as records, in its metrics files, and as curves in TensorBoard."""

from collections.abc import Sequence
from typing import Any

from engine.records.epoch_records import Record, best_of, initial_scalars_of, result_of, scalars_of
from engine.records.run_folder import RunFolder
from engine.records.tensorboard import TensorBoard


class History:
    """What the epochs of one run came to.

    Args:
        writes: False for a process that trains along with the one that writes.
    """

    def __init__(self, folder: RunFolder, writes: bool = True):
        self.epochs: list[Record] = []
        self.initial: list[Record] = []  # those of an initial stage, of which there are means alone
        self._folder = folder
        self._board = TensorBoard(folder.events, writes)

    @property
    def best(self) -> Record:
        """The record of the best epoch so far."""
        return best_of(self.epochs)

    def restore(self, epochs: Sequence[Record], initial: Sequence[Record]) -> None:
        """Go on from these records. Curves are drawn anew: those of an attempt that was cut off may lack the last."""
        self.epochs, self.initial = list(epochs), list(initial)
        self._board.clear()
        for record in self.initial:
            self._board.log(record["epoch"], initial_scalars_of(record))
        for record in self.epochs:
            self._board.log(record["epoch"], scalars_of(record))

    def publish_last(self) -> None:
        """Write the last epoch's record into the metrics and the curves."""
        self.write_metrics()
        self._board.log(self.epochs[-1]["epoch"], scalars_of(self.epochs[-1]))

    def publish_last_initial(self) -> None:
        """The same for the last epoch of the initial stage."""
        self.write_metrics()
        self._board.log(self.initial[-1]["epoch"], initial_scalars_of(self.initial[-1]))

    def write_metrics(self) -> None:
        """Write all records."""
        if self.initial:
            self._folder.write_initial_metrics(self.initial)
        if self.epochs:
            self._folder.write_metrics(self.epochs)

    def result(self) -> dict[str, Any]:
        """What result.json says of them."""
        return result_of(self.epochs, self.initial)
