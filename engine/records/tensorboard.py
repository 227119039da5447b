"""TensorBoard scalars through tensorboard_logger.

tensorboard_logger 0.1.0 (2018) has message classes made by an old protobuf compiler, which the C implementation of
protobuf refuses. The pure-Python implementation accepts them. It has to be chosen before protobuf is first imported,
hence in engine/__init__.py.
"""

import shutil
import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of its message classes, one for each field
    import tensorboard_logger

from common.files import explained_write_errors


class TensorBoard:
    """Writes scalars into event files in `folder`, which is created with the first scalar.

    Args:
        writes: False for a process that trains along with the one that writes.
    """

    def __init__(self, folder: Path, writes: bool = True):
        self._folder, self._writes = folder, writes
        self._logger: tensorboard_logger.Logger | None = None

    def clear(self) -> None:
        """Remove the events that an earlier attempt wrote."""
        if self._writes:
            shutil.rmtree(self._folder, ignore_errors=True)

    def log(self, epoch: int, scalars: dict[str, float]) -> None:
        """Add one point to each named curve.

        Raises:
            RunError: the events cannot be written.
        """
        if not self._writes:
            return
        with explained_write_errors(self._folder):
            if self._logger is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._logger = tensorboard_logger.Logger(str(self._folder), flush_secs=2)
            for name, value in scalars.items():
                self._logger.log_value(name, value, epoch)
