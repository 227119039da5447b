"""The suite's side of a measurement: the engine's input, teacher pass and training step, as single steps."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from benchmarking.candidates import SEED, Candidates
from benchmarking.rounds import Step
from dataset import Batch, Batching, BatchStream, DatasetEntry
from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.compute import Compute
from engine.training.student_run import StudentRun
from engine.training.teacher_pass import teacher_pass
from models import Features


class Suite:
    """A pair of networks and the training set on the device; makes the steps that are timed.

    Args:
        images, labels: training set, uint8 N×H×W×3 and int64 N.
    """

    def __init__(self, pair: Candidates, images: np.ndarray, labels: np.ndarray, entry: DatasetEntry, compute: Compute):
        self.pair, self.compute = pair, compute
        compute.place(pair.teacher)
        augmentation, batch_size = pair.recipe.augmentation, pair.recipe.batch_size
        batching = Batching(augmentation, batch_size, SEED, drop_last=True, channels_last=True)
        self.stream = BatchStream(images, labels, entry, batching, compute.device)
        self.batches = endless_batches(self.stream)

    @property
    def data_bytes(self) -> int:
        """Bytes of the training set on the device."""
        return self.stream.images.nbytes + self.stream.labels.nbytes

    def start(self, run: StudentRun) -> None:
        """Move a run to the device, which its steps require."""
        run.start(self.compute, self.stream.labels, self.stream.steps_per_epoch)

    def step_alone(self, run: StudentRun) -> Step:
        """Start a run and return its training step."""
        self.start(run)
        return self.step_of([run])

    def step_of(self, runs: Sequence[StudentRun]) -> Step:
        """Training step of a group of started runs."""
        return suite_step(runs, self.pair.teacher, self.batches, self.compute)

    def part_steps(self) -> dict[str, Step]:
        """Parts of a training step: input, the teacher's pass for all runs of the pair, the student's step."""
        batch = next(self.batches)
        teach = teacher_pass([self.pair.teacher], reads_of_teacher(self.pair.runs.values()), self.compute)
        return {
            "input": lambda: next(self.batches),
            "teacher": lambda: teach(batch.images),
            "student": lambda: train(self.pair.student, batch, ()),
        }


def suite_step(
    runs: Sequence[StudentRun], teacher: InferenceNetwork, batches: Iterator[Batch], compute: Compute
) -> Step:
    """Training step of a group of runs: input, one pass of the teacher if any run needs it, and each run's step."""
    teach = teacher_pass([teacher] if any_taught(runs) else [], reads_of_teacher(runs), compute)

    def step() -> None:
        batch = next(batches)
        features = teach(batch.images)
        for run in runs:
            train(run, batch, features)

    return step


def endless_batches(stream: BatchStream) -> Iterator[Batch]:
    """Repeat the first epoch without end, so that every position lies within the schedule."""
    while True:
        yield from stream.epoch(1)


def train(run: StudentRun, batch: Batch, features: tuple[Features, ...]) -> None:
    """One training step of a run, at the position of the batch."""
    run.position = (batch.epoch, batch.step)
    run.step(batch, features)


def any_taught(runs: Iterable[StudentRun]) -> bool:
    """True if any of the runs has a teacher."""
    return any(run.plan.teachers for run in runs)


def reads_of_teacher(runs: Iterable[StudentRun]) -> set[str]:
    """Fields of the teacher's features that the runs' methods read."""
    return {name for run in runs for name in run.method.reads_of_teacher()}
