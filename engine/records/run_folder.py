"""A run's folder: config.json, metrics.jsonl, result.json, checkpoints and TensorBoard events.

Every file is replaced as a whole and atomically. metrics.jsonl is written from the history that the checkpoint holds,
so the two agree wherever a run is interrupted.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import RequestError
from common.files import to_json, write_json, write_text
from common.lock import LOCK, sole_user_of
from engine.checkpoints.read_checkpoint import read_checkpoint
from engine.checkpoints.weights import WeightsHeader, save_weights, write_torch
from engine.protocol.plan import Code
from models import Network
from models.registry import file_name_of


@dataclass(frozen=True)
class SavedState:
    """The state that a run continues from.

    Attributes:
        content: of the newest good checkpoint; None if there is no checkpoint.
        damaged: newer checkpoints that cannot be read.
        problems: what is wrong with each of them, one line each.
    """

    content: dict[str, Any] | None
    damaged: tuple[Path, ...]
    problems: tuple[str, ...]


class RunFolder:
    """The files of one run below the output root.

    Args:
        arch: name of the trained network, which names the weights files.
        writes: False for a process that trains along with the one that writes: nothing changes on the disk then.
    """

    def __init__(self, path: Path, arch: str, writes: bool = True):
        self.path, self.writes = path, writes
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.initial_metrics = path / "initial_metrics.jsonl"
        self.result = path / "result.json"
        self.failure = path / "failure.json"
        self.checkpoint = path / "checkpoint.pth"
        self.former_checkpoint = path / "checkpoint_former.pth"
        self.events = path / "tensorboard"
        self.best = path / f"{file_name_of(arch)}_best.pth"
        self.last = path / f"{file_name_of(arch)}_last.pth"

    def at_epoch(self, epoch: int) -> Path:
        """The weights file that `--save_freq` keeps of an epoch."""
        return self.path / f"ckpt_epoch_{epoch}.pth"

    # --- reading ------------------------------------------------------------------------------------

    def is_finished(self) -> bool:
        """True once the result has been written."""
        return self.result.is_file()

    def recorded(self, name: str) -> Any:
        """A field of config.json; None if the file or the field is missing."""
        try:
            return json.loads(self.config.read_text()).get(name)
        except (OSError, ValueError, AttributeError):
            return None

    def data_digest(self) -> str | None:
        """The digest of the data that the run was started on; None if it is unknown."""
        digest = self.recorded("data_sha256")
        return digest if isinstance(digest, str) else None

    def code(self) -> Code | None:
        """The code that trained the run last (`engine.records.code_version`); None if it is unknown."""
        code = self.recorded("code")
        return code if isinstance(code, dict) else None

    def read_saved_state(self, run_id: str) -> SavedState:
        """Read the newest checkpoint; if it is damaged, the one before it.

        Raises:
            RequestError: there are checkpoints and none is good, or the newest good one is of another run.
        """
        damaged, problems = [], []
        for path in self.checkpoints():
            if not path.is_file():
                continue
            try:
                content = read_checkpoint(path)
            except RequestError as error:
                damaged.append(path)
                problems.append(str(error).splitlines()[0].split(";")[0])
                continue
            if content.get("run_id") != run_id:
                raise RequestError(f"{path} belongs to another run; --overwrite starts this run anew")
            return SavedState(content, tuple(damaged), tuple(problems))
        if problems:
            raise RequestError(f"{problems[0]}, and no earlier one is good; --overwrite starts this run anew")
        return SavedState(None, (), ())

    def checkpoints(self) -> tuple[Path, Path]:
        """The last checkpoint and the one before it."""
        return self.checkpoint, self.former_checkpoint

    # --- opening and removing -----------------------------------------------------------------------

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Create the folder, check at once that it can be written, and keep other processes out of it.

        Raises:
            RequestError: it cannot be written, or another process writes it.
        """
        if not self.writes:
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise RequestError(
                f"cannot write to {self.path}: {error.strerror}; choose another place with --output"
            ) from None
        try:
            with sole_user_of(self.path):
                for half_written in self.path.glob(".*.tmp"):  # by a run that was killed while it saved
                    half_written.unlink()
                if self.is_finished():  # killed between its result and the end
                    self.remove_checkpoints()
                yield
        finally:
            with contextlib.suppress(OSError):
                self.path.rmdir()  # if the run ended before its first file, nothing is left behind

    def clear(self) -> None:
        """Remove all files of the run, for `--overwrite`."""
        for path in self.path.glob("*"):
            if path.name != LOCK:
                self.discard(path)

    def remove_checkpoints(self) -> None:
        """Remove the checkpoints: beyond the final weights they hold only what an unfinished run needs."""
        for path in self.checkpoints():
            self.discard(path)

    def discard_leftovers(self) -> None:
        """Remove the checkpoints of a finished run that was killed right after its result, unless another writes."""
        if any(path.exists() for path in (*self.checkpoints(), self.path / LOCK)):
            with contextlib.suppress(RequestError), self.opened():
                pass

    def discard(self, path: Path) -> None:
        """Remove a file or folder, if it exists."""
        if not self.writes:
            return
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    # --- writing ------------------------------------------------------------------------------------

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.json."""
        self._write(write_json, self.config, config)

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        """Write metrics.jsonl, a line per epoch."""
        self._write(write_text, self.metrics, _lines(history))

    def write_initial_metrics(self, history: list[dict[str, Any]]) -> None:
        """Write initial_metrics.jsonl, a line per epoch of the initial stage."""
        self._write(write_text, self.initial_metrics, _lines(history))

    def write_result(self, result: dict[str, Any]) -> None:
        """Write result.json, which marks the run as finished."""
        self._write(write_json, self.result, result)

    def write_failure(self, reason: str) -> None:
        """Write failure.json for tables, which leave the run out; nothing is written for a run that has not begun."""
        if self.config.is_file():
            # Messages may contain undecodable path bytes.
            self._write(write_json, self.failure, {"reason": reason.encode(errors="backslashreplace").decode()})

    def write_weights(self, path: Path, network: Network, header: WeightsHeader) -> None:
        """Write a network's weights to one of the paths here (see `save_weights`)."""
        self._write(save_weights, path, network, header)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write the checkpoint; the previous one is kept, in case a disk damages this one."""
        self._write(write_torch, self.checkpoint, state, keep=self.former_checkpoint)

    def _write(self, write: Callable[..., None], path: Path, *content: Any, **options: Any) -> None:
        if self.writes:
            write(path, *content, **options)


def _lines(history: list[dict[str, Any]]) -> str:
    return "".join(to_json(record) + "\n" for record in history)
