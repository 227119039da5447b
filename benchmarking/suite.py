"""The suite's side of a measurement: the engine's own input, teacher pass and step, as calls of one step each."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from benchmarking.candidates import SEED, Candidates
from benchmarking.rounds import Step
from dataset import Batch, BatchStream, DatasetEntry
from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.compute import Compute
from engine.training.student_run import StudentRun
from engine.training.teacher_pass import teacher_pass


class Suite:
    """A pair on the device, with the training set; makes steps of its runs.

    Args:
        images, labels: of the training set, uint8 N×H×W×3 and int64 N.
    """

    def __init__(self, pair: Candidates, images: np.ndarray, labels: np.ndarray, entry: DatasetEntry, compute: Compute):
        self.pair, self.compute = pair, compute
        compute.place(pair.teacher)
        augmentation, batch_size = pair.recipe.augmentation, pair.recipe.batch_size
        self.stream = BatchStream(
            images, labels, entry, augmentation, batch_size, SEED, drop_last=True, device=compute.device,
            channels_last=True,
        )  # fmt: skip
        self.batches = over_and_over(self.stream)

    @property
    def data_bytes(self) -> int:
        """Of the training set on the device."""
        return self.stream.images.nbytes + self.stream.labels.nbytes

    def start(self, member: StudentRun) -> None:
        """Move a run to the device; it must be there before it steps."""
        member.start(self.compute, self.stream.labels, self.stream.steps_per_epoch)

    def step_alone(self, member: StudentRun) -> Step:
        """Start a run; its whole step."""
        self.start(member)
        return self.step_of([member])

    def step_of(self, members: Sequence[StudentRun]) -> Step:
        """The whole step of a group of runs that have started."""
        return suite_step(members, self.pair.teacher, self.batches, self.compute)

    def part_steps(self) -> dict[str, Step]:
        """What every step is made of: input, the teacher's pass for all runs of the pair, the student's step."""
        batch = next(self.batches)
        teach = teacher_pass([self.pair.teacher], reads_of_teacher(self.pair.members.values()), self.compute)
        return {
            "input": lambda: next(self.batches),
            "teacher": lambda: teach(batch.images),
            "student": lambda: train(self.pair.student, batch, ()),
        }


def suite_step(
    members: Sequence[StudentRun], teacher: InferenceNetwork, batches: Iterator[Batch], compute: Compute
) -> Step:
    """A step of a group of runs: input, one pass of the teacher where any learns from it, and the step of each."""
    teach = teacher_pass([teacher] if any_taught(members) else [], reads_of_teacher(members), compute)

    def step() -> None:
        batch = next(batches)
        features = teach(batch.images)
        for member in members:
            train(member, batch, features)

    return step


def over_and_over(stream: BatchStream) -> Iterator[Batch]:
    """The batches of the first epoch without end: every position lies within the schedule."""
    while True:
        yield from stream.epoch(1)


def train(member: StudentRun, batch: Batch, features: tuple) -> None:
    """One step of a run at the position of a batch."""
    member.position = (batch.epoch, batch.step)
    member.step(batch, features)


def any_taught(members: Iterable[StudentRun]) -> bool:
    return any(member.plan.teachers for member in members)


def reads_of_teacher(members: Iterable[StudentRun]) -> set[str]:
    return {name for member in members for name in member.method.reads_of_teacher()}
