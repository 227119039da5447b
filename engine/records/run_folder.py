"""A run's folder: config.json, metrics.jsonl, result.json, checkpoints and TensorBoard events.

Every file is replaced as a whole and atomically. metrics.jsonl is written from the history that the checkpoint holds,
so the two agree wherever a run is interrupted.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import RequestError, RunError
from common.files import make_folder, to_json, write_json, write_text
from common.json_files import object_or_none
from common.lock import LOCK, Hold, sole_user_of
from common.user_paths import file_is_there, shown_path
from engine.checkpoints.read_checkpoint import read_checkpoint
from engine.checkpoints.weights import WeightsHeader, save_weights, write_torch
from engine.protocol.plan import Code
from engine.records import repetition
from models import Network
from models.registry import file_name_of

PROBE = ".writable"
PROBE_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # no link is followed, no pipe waited for
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

    Attributes:
        path: the run's folder, with its lock.
        place: where its files are: `path`, or a folder in it while a finished run is repeated (`records.repetition`).
    """

    def __init__(self, path: Path, arch: str, writes: bool = True):
        self.path, self.writes, self._arch = path, writes, arch
        self._hold: Hold | None = None  # while it is open
        self._use(path)

    def _use(self, place: Path) -> None:
        """Name the files of the run in the folder `place`: its own, or that of its repetition."""
        self.place = place
        self.config = place / "config.json"
        self.metrics = place / "metrics.jsonl"
        self.initial_metrics = place / "initial_metrics.jsonl"
        self.result = place / repetition.RESULT
        self.failure = place / "failure.json"
        self.traceback = place / "error.txt"
        self.checkpoint = place / "checkpoint.pth"
        self.former_checkpoint = place / "checkpoint_former.pth"
        self.events = place / "tensorboard"
        self.best = place / f"{file_name_of(self._arch)}_best.pth"
        self.last = place / f"{file_name_of(self._arch)}_last.pth"

    def at_epoch(self, epoch: int) -> Path:
        """The weights file that `--save_freq` keeps of an epoch."""
        return self.place / f"ckpt_epoch_{epoch}.pth"

    # --- reading ------------------------------------------------------------------------------------

    def is_finished(self) -> bool:
        """True once the result has been written, unless the run is to be repeated.

        A result without its config.json is the rest of a folder that was removed; one that is no JSON is a cut copy.
        """
        written = object_or_none(self.path / repetition.RESULT) is not None
        return written and os.path.isfile(self.path / self.config.name) and not repetition.is_pending(self.path)

    def recorded(self, name: str) -> Any:
        """A field of config.json; None if the file or the field is missing."""
        return (object_or_none(self.config) or {}).get(name)

    def data_digest(self) -> str | None:
        """The digest of the data that the run was started on; None if it is unknown."""
        digest = self.recorded("data_sha256")
        return digest if isinstance(digest, str) else None

    def size_of(self, path: Path) -> int | None:
        """The size of a file in bytes; None if this process does not write it, or it was removed."""
        return path.stat().st_size if self.writes and path.is_file() else None

    def code(self) -> Code | None:
        """The code that trained the run last (`engine.records.code_version`); None if it is unknown."""
        code = self.recorded("code")
        return code if isinstance(code, dict) else None

    def read_saved_state(self, run_id: str) -> SavedState:
        """Read the newest checkpoint; if it is damaged, the one before it.

        Raises:
            RequestError: there are checkpoints and none is good, or the newest good one is of another run, or there is
                a result although the run is not finished.
        """
        if self.place == self.path and os.path.lexists(self.result) and not self.is_finished():
            raise RequestError(
                f"{shown_path(self.result)} is not that of a whole run: files beside it were removed or not copied;\n"
                f"bring them back, move it away, or start the run anew with --overwrite"
            )
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
                    for place in (self.path, self.path / repetition.REPETITION):
                        for half_written in place.glob(".*.tmp"):  # by a run that was killed while it saved
                            if os.path.isfile(half_written):
                                half_written.unlink()
                    repetition.put_in_place(self.path)
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
            probe = self.path / PROBE
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | PROBE_FLAGS, 0o600))
            probe.unlink(missing_ok=True)
            return lock.enter_context(sole_user_of(self.path))
        except OSError as error:
            raise RequestError(
                f"cannot write to {shown_path(self.path)}: {error.strerror}; choose another place with --output"
            ) from None

    def begin_anew(self) -> None:
        """Start the run with nothing, for `--overwrite`; a finished one stays until its repetition has a result."""
        self.check_hold()
        if (self.path / repetition.RESULT).is_file():
            self._use(self.path / repetition.REPETITION)
            if self.writes:
                make_folder(self.place)  # from here on the run is to be repeated
        for path in self.place.glob("*"):
            if path.name != LOCK:
                self.discard(path)

    def continue_repetition(self) -> None:
        """Use the files of the run's repetition, if one was begun; the folder must be open."""
        if (self.path / repetition.REPETITION).is_dir():
            self._use(self.path / repetition.REPETITION)

    def replace_former(self) -> None:
        """Put a finished repetition in the place of the run that it repeats. Raises RunError if that is impossible."""
        if self.place != self.path:
            if self.writes:
                self.check_hold()
                repetition.put_in_place(self.path)
            self._use(self.path)

    def remove_checkpoints(self) -> None:
        """Remove the checkpoints: beyond the final weights they hold only what an unfinished run needs."""
        for path in self.checkpoints():
            self.discard(path)

    def discard_leftovers(self) -> None:
        """Remove what is left in the folder of a finished run by a command that was killed, unless another writes."""
        if any(os.path.lexists(path) for path in (*self.checkpoints(), self.path / LOCK, self.path / PROBE)):
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
        self._write(write_text, self.traceback, text)

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
    return "".join(to_json(record) + "\n" for record in history)
