"""What the runs of one command share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dataset import DatasetEntry, LeftOut, Unlabelled
from dataset.to_device import DeviceArrays
from engine.device.compute import Compute
from engine.records.progress import Progress
from engine.training.stop_request import StopRequest

Overwrite = Literal["all", "changed"]
# Seconds between two checkpoints within an epoch. Epochs of large pairs take long.
CHECKPOINT_SECONDS = 600.0


@dataclass(frozen=True)
class RunSettings:
    """Where runs are written, what they compute on, and how they begin.

    Attributes:
        output: root of what is written.
        data_folder: where the data set lies.
        overwrite: which existing runs start anew: all, those whose code or data has changed, or none. Otherwise
            finished ones are left alone and others continued.
        continue_changed: continue an unfinished run also if its code has changed.
        skip_refused: leave out methods that refuse the pair, with a message, instead of raising.
        group_size: the most runs that train at a time; None for all that can share batches.
        checkpoint_seconds: time between two checkpoints within an epoch.
        skip_bad_images: leave out photographs that cannot be decoded, instead of ending.
        allow_large: train networks too that are beyond reason for the size of the images.
        run_list: a file that gets the folders of all runs, a line each; None for no such file.
        unlabelled: images without labels that all runs train on, as their plans say.
    """

    output: Path
    data_folder: Path
    compute: Compute
    overwrite: Overwrite | None = None
    continue_changed: bool = False
    skip_refused: bool = False
    group_size: int | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    skip_bad_images: bool = False
    allow_large: bool = False
    run_list: Path | None = None
    unlabelled: Unlabelled | None = None


@dataclass(frozen=True)
class Session:
    """Data, device and terminal of a command, once everything is checked and the data is loaded.

    Attributes:
        entry: the data set, without the images that are held out.
        data: training and test set, on the device where they fit in memory.
        held_out: the same training set with the held-out images as its test set; None where nothing is held out.
        data_digest: SHA-256 of the whole data set (`dataset.digest`).
        left_out: the photographs that cannot be decoded.
        environment: versions, hardware and commit, for config.json.
    """

    settings: RunSettings
    entry: DatasetEntry
    data: DeviceArrays
    held_out: DeviceArrays | None
    data_digest: str
    left_out: LeftOut
    environment: dict[str, Any]
    progress: Progress
    stop: StopRequest = field(default_factory=StopRequest)

    @property
    def compute(self) -> Compute:
        return self.settings.compute

    def stop_requested(self) -> bool:
        """True in every process if any of them was asked to stop."""
        return self.compute.world.any(self.stop.requested)
