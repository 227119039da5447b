"""A run's folder: config.json, metrics.jsonl, result.json, checkpoints and TensorBoard events.

Every file is replaced as a whole and atomically. metrics.jsonl is written from the history that the
checkpoint holds, so the two never disagree, whenever a run is cut off.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import RequestError
from common.files import write_json, write_text
from common.lock import LOCK, sole_user_of
from engine.checkpoints.weights import save_weights, write_torch
from engine.records.code_version import Sources
from models import Network
from models.registry import file_name_of


def trained_by(weights: Path) -> str:
    """What tables call the training that left a weights file: its run's label, else the name of the file.

    The classifier of a probe is no part of what trained the network, so its own backbone's is named.
    """
    try:
        config = json.loads((weights.parent / "config.json").read_text())
        label = config["backbone"]["trained_by"] if config.get("backbone") else config["label"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return weights.name
    return label if isinstance(label, str) else weights.name


def code_behind(weights: Path) -> Sources:
    """The code that trained the network of a weights file, as its run says; empty where it says nothing.

    Of a probe that is, as above, the code behind its backbone.
    """
    run = RunFolder(weights.parent, "")
    if isinstance(backbone := run.recorded("backbone"), dict):
        return backbone.get("sources") or {}
    return {f"backbone: {file}": digest for file, digest in (run.sources() or {}).items()}


class RunFolder:
    """The files of one run below the output root."""

    def __init__(self, path: Path, arch: str):
        self.path = path
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
        return self.path / f"ckpt_epoch_{epoch}.pth"

    def is_finished(self) -> bool:
        return self.result.is_file()

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder, find out at once whether it can be written, and keep other processes out of it.

        Raises:
            RequestError: it cannot be written, or another process writes it.
        """
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
                self.path.rmdir()  # where it ended before its first file, nothing of it is left behind

    def discard(self, path: Path) -> None:
        """Remove one file."""
        path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the run, for `--overwrite`."""
        for path in self.path.iterdir():
            if path.name == LOCK:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def remove_checkpoints(self) -> None:
        """What they hold beyond the final weights was needed only to go on."""
        for path in self.checkpoints():
            path.unlink(missing_ok=True)

    def discard_leftovers(self) -> None:
        """Remove checkpoints of a finished run that was killed right after its result, where nobody writes here."""
        if any(path.exists() for path in (*self.checkpoints(), self.path / LOCK)):
            with contextlib.suppress(RequestError), self.opened():
                pass

    def data_digest(self) -> str | None:
        """What identifies the data that the run was started on; None where its config.json does not say."""
        found = self.recorded("data_sha256")
        return found if isinstance(found, str) else None

    def sources(self) -> Sources | None:
        """The code that trained the run last (see `engine.records.code_version`); None where nothing is said."""
        found = self.recorded("sources")
        return found if isinstance(found, dict) else None

    def recorded(self, name: str) -> Any:
        """A field of config.json; None where there is none."""
        try:
            return json.loads(self.config.read_text()).get(name)
        except (OSError, ValueError, AttributeError):
            return None

    def checkpoints(self) -> tuple[Path, Path]:
        """The last checkpoint and the one before it."""
        return self.checkpoint, self.former_checkpoint

    def write_config(self, config: dict[str, Any]) -> None:
        write_json(self.config, config)

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        write_text(self.metrics, "".join(json.dumps(record) + "\n" for record in history))

    def write_initial_metrics(self, history: list[dict[str, Any]]) -> None:
        write_text(self.initial_metrics, "".join(json.dumps(record) + "\n" for record in history))

    def write_result(self, result: dict[str, Any]) -> None:
        write_json(self.result, result)

    def write_failure(self, reason: str) -> None:
        """Say why the run has stopped, for tables that leave it out. Nothing is said of a run that has not begun."""
        if self.config.is_file():
            # Words of an exception may hold bytes of a path that are no text.
            write_json(self.failure, {"reason": reason.encode(errors="backslashreplace").decode()})

    def write_weights(self, path: Path, network: Network, **description: Any) -> None:
        """`save_weights` into one of the files here."""
        save_weights(path, network, **description)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write the checkpoint; the one before it is kept, in case a disk damages this one."""
        write_torch(self.checkpoint, state, keep=self.former_checkpoint)


class ReadOnlyRunFolder(RunFolder):
    """The folder of a run as the processes see it that train along but do not write: they only read."""

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        yield

    def discard(self, path: Path) -> None:
        pass

    def clear(self) -> None:
        pass

    def remove_checkpoints(self) -> None:
        pass

    def discard_leftovers(self) -> None:
        pass

    def write_config(self, config: dict[str, Any]) -> None:
        pass

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        pass

    def write_initial_metrics(self, history: list[dict[str, Any]]) -> None:
        pass

    def write_result(self, result: dict[str, Any]) -> None:
        pass

    def write_failure(self, reason: str) -> None:
        pass

    def write_weights(self, path: Path, network: Network, **description: Any) -> None:
        pass

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        pass
