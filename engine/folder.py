"""A run's folder: config.json, metrics.jsonl, result.json, checkpoints and TensorBoard events.

Every file is replaced as a whole and atomically. metrics.jsonl is written from the history that the
checkpoint holds, so the two never disagree, whenever a run is cut off.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from common.errors import RequestError
from common.files import write_json, write_text
from engine.weights import write_torch


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


class RunFolder:
    """The files of one run below the output root."""

    def __init__(self, path: Path, arch: str):
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.checkpoint = path / "checkpoint.pth"
        self.events = path / "tensorboard"
        self.best = path / f"{arch}_best.pth"
        self.last = path / f"{arch}_last.pth"

    def at_epoch(self, epoch: int) -> Path:
        return self.path / f"ckpt_epoch_{epoch}.pth"

    def is_finished(self) -> bool:
        return self.result.is_file()

    def create(self) -> None:
        """Make the folder and find out at once whether it can be written.

        Raises:
            RequestError: it cannot.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
            for half_written in self.path.glob(".*.tmp"):  # by a run that was killed while it saved
                half_written.unlink()
        except OSError as error:
            raise RequestError(
                f"cannot write to {self.path}: {error.strerror}; choose another place with --output"
            ) from None

    def clear(self) -> None:
        """Remove the run, for `--overwrite`."""
        shutil.rmtree(self.path, ignore_errors=True)

    def write_config(self, config: dict[str, Any]) -> None:
        write_json(self.config, config)

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        write_text(self.metrics, "".join(json.dumps(record) + "\n" for record in history))

    def write_result(self, result: dict[str, Any]) -> None:
        write_json(self.result, result)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        write_torch(self.checkpoint, state)
