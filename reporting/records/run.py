"""One finished run, as far as a table needs it, and a folder that holds none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.class_sizes import are_uneven
from common.json_files import printable
from reporting.records.latency import Latency
from reporting.records.untrusted_json import percentage_or_none, read_tail

CONFIG, METRICS, RESULT = "config.json", "metrics.jsonl", "result.json"


@dataclass(frozen=True)
class Accuracy:
    """Test accuracy in per cent, top-1, top-5 and balanced (the mean of the classes'); None where not on record."""

    top1: float
    top5: float | None = None
    balanced: float | None = None


@dataclass(frozen=True)
class Size:
    """What it takes to keep and to run a network; None where the records do not say.

    Attributes:
        parameters: of the network, with the heads that it predicts with.
        macs: multiply-accumulates of the prediction of one image.
        file_bytes: of its weights file.
    """

    parameters: int | None = None
    macs: int | None = None
    file_bytes: int | None = None


@dataclass(frozen=True)
class Teacher:
    """A checkpoint that taught a run, with its own test accuracy.

    Attributes:
        accuracy: None for one of other classes than the data set's, whose predictions say nothing.
        normalisation: mean and standard deviation of the images that it saw, in words; "" for the data set's own.
        epoch: the epoch that its file is of, by the file's name, such as "last epoch"; "" where that does not say.
    """

    model: str
    sha256: str
    accuracy: Accuracy | None
    normalisation: str = ""
    epoch: str = ""
    size: Size = field(default=Size(), compare=False)  # older records of the same teacher have none

    @property
    def name(self) -> str:
        """The network, with its normalisation where that is not the data set's: one file is then two teachers."""
        return f"{self.model} ({self.normalisation})" if self.normalisation else self.model

    @property
    def checkpoint(self) -> str:
        """The network and the start of its checkpoint's hash."""
        return f"{self.name} ({self.sha256:.8})"


@dataclass(frozen=True)
class Costs:
    """Time, memory and size of a run; None where the records do not say.

    Attributes:
        seconds_per_epoch, images_per_second: of the median epoch on record (the faster one of two in the middle), so
            that neither an epoch that compiles nor one in which the machine slept counts.
        initial_epochs, initial_seconds: of the stage that some methods have before the first epoch; not part of the
            two above.
        peak_memory_mib: of the process on the CPU, of the allocator on a GPU; the runs of one command share it.
        parameters: of the network, with the heads that it predicts with where the record has them.
        method_parameters: what the method trains beside the student.
        hardware: the GPU, or the processor and its threads; "" where the records do not say.
        macs, file_bytes: see `Size`.
        latency: of one image, beside the teacher's.
    """

    seconds_per_epoch: float | None = None
    initial_epochs: int = 0
    initial_seconds: float | None = None
    images_per_second: float | None = None
    peak_memory_mib: float | None = None
    parameters: int = 0
    method_parameters: int | None = None
    hardware: str = ""
    macs: int | None = None
    file_bytes: int | None = None
    latency: Latency | None = None


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where the records are.
        kind: "student", "teacher" (a network trained alone) or "probe" (a new classifier on a frozen network).
        label: the method as tables call it; of a probe, how its backbone was trained. It has the order of the teachers
            where that matters, settings by which runs of one label differ, and "(code …)" where other code made the run
            than the last run of that label.
        protocol, protocol_id: the protocol for people, and the hash that comparable runs share.
        epochs: length of the recipe.
        backbone: SHA-256 of the weights that a probe froze; "" for other kinds.
        data: SHA-256 of the data set; "" where the record does not say.
        last, best: test accuracy after the last epoch, and after the epoch that is best on the test set.
        finished_at: end of the run in seconds since 1970.
        doubt: why the result could not be checked against the metrics; "" where it was.
        config: the content of config.json.
        data_group: short name of the data, such as "data 1a2b3c4d", where runs of the same data set saw different
            bytes; "" where all saw the same.
        former_code: version of the code that made it where the label names it; "" otherwise.
        short_path: the folder below the root that it was found in; "" where that is ambiguous.
        names_checkpoints: whether `teacher` names checkpoints too, because one trial learned from several of a network.
    """

    folder: Path
    kind: str
    dataset: str
    num_classes: int
    image_size: int
    model: str
    method: str
    label: str
    teachers: tuple[Teacher, ...]
    trial: int
    seed: int
    run_id: str
    protocol: str
    protocol_id: str
    epochs: int
    last: Accuracy
    best: Accuracy
    costs: Costs = Costs()
    finished_at: float = 0.0
    backbone: str = ""
    data: str = ""
    doubt: str = ""
    config: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    data_group: str = ""
    former_code: str = ""
    names_checkpoints: bool = False
    short_path: str = ""

    @property
    def path(self) -> str:
        """The folder as one line of printable text."""
        return printable(str(self.folder))

    @property
    def path_in_notes(self) -> str:
        """The folder below its root, where no other run has that; else `path`."""
        return self.path if self.short_path in ("", ".") else self.short_path

    @property
    def teacher(self) -> str:
        """Names of the teachers, sorted and joined by "+"; "" without teachers. Their order is part of the label."""
        names = (teacher.checkpoint if self.names_checkpoints else teacher.name for teacher in self.teachers)
        return "+".join(sorted(names))

    @property
    def teacher_networks(self) -> str:
        """Names of the teachers without their checkpoints, sorted and joined by "+"."""
        return "+".join(sorted(teacher.name for teacher in self.teachers))

    @property
    def held_out_images(self) -> int | None:
        """Number of training images that were held out; None where none were."""
        return _count(self.config.get("validation"))

    @property
    def test_images(self) -> int | None:
        """Number of test images; None where the record does not say."""
        return _count(self.config.get("test_images"))

    @property
    def uneven_classes(self) -> bool:
        """True if the test set is known to have classes of unequal sizes, so that balanced accuracy says more."""
        images = self.config.get("test_class_images")
        return isinstance(images, list) and are_uneven(filter(None, map(_count, images)))

    @property
    def recipe_changes(self) -> Mapping[str, Any]:
        """Fields of the recipe that differ from its preset, with their values.

        Older records list them in the protocol only, as text: "repdistiller schedule=cosine, 1 epoch, batch 64, fp32".
        """
        changes = self.config.get("recipe_changes")
        if isinstance(changes, dict):
            return changes
        words = self.protocol.split(", ")[0].split()[1:]
        return dict(word.split("=", 1) for word in words if "=" in word)

    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl, one for each epoch. Reads the file; broken lines are left out."""
        return read_tail(self.folder / METRICS)

    def history(self, part: str = "test") -> dict[int, float]:
        """Returns {epoch: top-1 in per cent} on the "test" set or the "validation" images; see `history_of`."""
        return history_of(self.metrics(), part)


@dataclass(frozen=True)
class Skipped:
    """A folder that no table counts. `state`: unfinished, failed, broken, foreign, unreadable or left out."""

    path: str
    state: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.state}, {self.reason}"


def history_of(lines: Iterable[Mapping[str, Any]], part: str = "test") -> dict[int, float]:
    """Returns {epoch: top-1 in per cent} of a run's metrics, sorted by epoch.

    Lines without an epoch or such an accuracy are left out; of two lines for one epoch the last counts.

    Args:
        lines: records of metrics.jsonl, as `Run.metrics` returns them.
        part: "test" for the test set, "validation" for the held-out images.
    """
    found = {}
    for line in lines:
        epoch, measured = line.get("epoch"), line.get(part)
        top1 = percentage_or_none(measured.get("top1")) if isinstance(measured, dict) else None
        if top1 is not None and isinstance(epoch, int) and not isinstance(epoch, bool) and 0 <= epoch < 10**9:
            found[epoch] = top1
    return dict(sorted(found.items()))


def _count(value: object) -> int | None:
    """Returns a number of images from 1 on; None for anything else, 0 included."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else None
