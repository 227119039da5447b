"""The training loop. A group of students shares one stream of batches and one pass of the teachers over each."""

import time
from collections.abc import Sequence

from common.errors import Interrupted
from dataset import BatchStream
from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.timer import moment
from engine.records.progress import Progress
from engine.training.epoch_end import finish_epoch
from engine.training.group import Group
from engine.training.session import Session
from engine.training.student_run import StudentRun
from engine.training.teacher_pass import teacher_pass


def train_group(group: Group, teachers: Sequence[InferenceNetwork], stream: BatchStream, session: Session) -> None:
    """Train the runs of a group to their ends; what becomes of each is in the group's outcome.

    Runs may stand at different positions (one may have been interrupted, another be new): the stream starts at the
    earliest, and a run joins when the stream reaches it. One that fails, by whatever exception, leaves the group.

    Raises:
        Interrupted: a stop was requested and runs remain; the state of each is saved.
        Exception: of what the runs share, the batches and the teachers' pass; states are saved where possible.
    """
    device, progress = session.compute.device, session.progress
    teach = teacher_pass(teachers, group.reads_of_teacher(), session.compute)
    timer = SaveTimer(session.settings.checkpoint_seconds)
    with group.saved_on_error():
        group.finish_trained()  # those cut off between their last epoch and their result
        while group.active:
            epoch, first_step = min(run.position for run in group.active)
            where = epoch_in_words(epoch, group.active[0].plan.recipe.epochs)
            batches = stream.epoch(epoch, first_step)
            began = moment(device)
            with progress.bar(batches, where, stream.steps_per_epoch, first_step) as shown:
                for batch in shown:
                    made = moment(device)
                    features = teach(batch.images)
                    taught = moment(device)
                    for run in group.at(epoch, batch.step):
                        with group.isolated(run):
                            run.step(batch, features, (began, taught if run.plan.teachers else made))
                    save_where_due(group.at(epoch, batch.step + 1), group, session, timer)
                    if not group.active:
                        break
                    began = moment(device)
            for run in group.at(epoch, stream.steps_per_epoch):
                with group.isolated(run):
                    finish_epoch(run, session)
                if run in group.active:
                    report_epoch(run, progress)
            group.finish_trained()
            save_where_due([], group, session, timer)  # each has just been saved; this one is for a stop


class SaveTimer:
    """Tells when the last checkpoints within an epoch are `seconds` old. No result depends on it."""

    def __init__(self, seconds: float):
        self.seconds, self.started = seconds, time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self.started >= self.seconds

    def restart(self) -> None:
        self.started = time.monotonic()


def save_where_due(runs: Sequence[StudentRun], group: Group, session: Session, timer: SaveTimer) -> None:
    """Save runs of a group if the last checkpoints are old, or if a stop was requested.

    Raises:
        Interrupted: a stop was requested; the runs are saved.
    """
    # With no run left there is nothing to interrupt: results and failures are in the outcome.
    if not group.active or not group.world.any(session.stop.requested or timer.due):
        return
    for run in runs:
        with group.isolated(run):
            run.save()
    timer.restart()
    if group.active and session.stop_requested():
        raise Interrupted


def epoch_in_words(epoch: int, epochs: int) -> str:
    """The number of an epoch as text; of an initial stage, which counts up to 0, the number of epochs to go."""
    return f"epoch {epoch}/{epochs}" if epoch > 0 else f"{1 - epoch} initial epochs to go"


def report_epoch(run: StudentRun, progress: Progress) -> None:
    """Print the line of the epoch that a run has just finished."""
    if run.history.epochs:
        progress.epoch(run.plan, run.history.epochs[-1], run.history.best)
    else:
        progress.initial_epoch(run.plan, run.history.initial[-1])
