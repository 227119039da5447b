"""A run's folder: config.json, metrics.jsonl, result.json, checkpoints and TensorBoard events.

Every file is replaced as a whole and atomically. metrics.jsonl is written from the history that the checkpoint holds,
so the two agree wherever a run is interrupted.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import RequestError, RunError
from common.files import write_json, write_text
from common.json_files import object_or_none
from common.lock import LOCK, Hold, sole_user_of
from common.user_paths import file_is_there, shown_path
from engine.checkpoints.read_checkpoint import read_checkpoint
from engine.checkpoints.weights import WeightsHeader, save_weights, write_torch
from engine.protocol.plan import Code
from models import Network
from models.registry import file_name_of

TRACEBACK = "error.txt"
ADVICE = "move it away, or start anew with --overwrite"


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
        self._hold: Hold | None = None  # while it is open
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
        """True once the result has been written. A result without its config.json is the rest of a removed folder."""
        return os.path.isfile(self.result) and os.path.isfile(self.config)

    def recorded(self, name: str) -> Any:
        """A field of config.json; None if the file or the field is missing."""
        return (object_or_none(self.config) or {}).get(name)

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
            try:
                if not file_is_there(path, ADVICE):
                    continue
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

    def check_hold(self) -> None:
        """Raise RunError if the folder was removed, renamed or replaced, or its lock, since it was opened."""
        if self._hold is not None:
            self._hold.check()

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Create the folder, check at once that it can be written, and keep other processes out of it.

        Raises:
            RequestError: it cannot be written, or another process writes it.
        """
        if not self.writes:
            yield
            return
        own = True
        try:
            with contextlib.ExitStack() as lock:
                hold = self._hold = self._taken(lock)
                try:
                    for half_written in self.path.glob(".*.tmp"):  # by a run that was killed while it saved
                        half_written.unlink()
                    if self.is_finished():  # killed between its result and the end
                        self.remove_checkpoints()
                    yield
                finally:
                    self._hold, own = None, hold.stands
        finally:
            if own:
                with contextlib.suppress(OSError):
                    self.path.rmdir()  # if the run ended before its first file, nothing is left behind

    def _taken(self, lock: contextlib.ExitStack) -> Hold:
        """Make the folder, write to it and lock it; `lock` releases it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600))
            probe.unlink(missing_ok=True)
            return lock.enter_context(sole_user_of(self.path))
        except OSError as error:
            raise RequestError(
                f"cannot write to {shown_path(self.path)}: {error.strerror}; choose another place with --output"
            ) from None

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
        if any(os.path.lexists(path) for path in (*self.checkpoints(), self.path / LOCK)):
            with contextlib.suppress(RequestError, RunError), self.opened():
                pass

    def discard(self, path: Path) -> None:
        """Remove a file or folder, if it exists."""
        if not self.writes:
            return
        self.check_hold()
        if path.is_dir() and not path.is_symlink():
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
        if os.path.isfile(self.config):
            # Messages may contain undecodable path bytes.
            self._write(write_json, self.failure, {"reason": reason.encode(errors="backslashreplace").decode()})

    def write_traceback(self, text: str) -> None:
        """Write the traceback of a mistake in a method's code."""
        self._write(write_text, self.path / TRACEBACK, text)

    def write_weights(self, path: Path, network: Network, header: WeightsHeader) -> None:
        """Write a network's weights to one of the paths here (see `save_weights`)."""
        self._write(save_weights, path, network, header)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write the checkpoint; the previous one is kept, in case a disk damages this one."""
        self._write(write_torch, self.checkpoint, state, keep=self.former_checkpoint)

    def _write(self, write: Callable[..., None], path: Path, *content: Any, **options: Any) -> None:
        """Write one file, where the folder is still the one that was opened. Raises RunError otherwise."""
        if not self.writes:
            return
        self.check_hold()
        write(path, *content, **options)
        if self._hold is not None and not self._hold.stands:
            # Removed amid the writing, which has made the folder anew: a lonely result would pass for a finished run.
            self.result.unlink(missing_ok=True)
            self.check_hold()


def _lines(history: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in history)
