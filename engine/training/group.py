"""A group: runs that share batches and teachers, and train side by side. One that fails leaves it."""

import gc
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from common.errors import DataError, Interrupted, RunError
from engine.device.world import World
from engine.records.progress import Progress
from engine.training.epoch_end import finish_run
from engine.training.failures import Outcome, reason_of
from engine.training.student_run import StudentRun


class Group:
    """Runs that share a stream of batches.

    Args:
        outcome: gets the results of runs that finish and the reasons of those that fail.

    Attributes:
        active: the runs that have neither finished nor failed.
    """

    def __init__(self, runs: Sequence[StudentRun], outcome: Outcome, world: World, progress: Progress):
        self.active, self.outcome = list(runs), outcome
        self.world, self._progress = world, progress

    def at(self, epoch: int, step: int) -> list[StudentRun]:
        """The active runs whose next step is this one."""
        return [run for run in self.active if run.position == (epoch, step)]

    def reads_of_teacher(self) -> set[str]:
        """The fields of the teachers' features that any of the methods reads."""
        return {name for run in self.active for name in run.method.reads_of_teacher()}

    @contextmanager
    def isolated(self, run: StudentRun, fatal: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """A block whose exceptions end this run alone; the others go on.

        The reason is printed and kept in the outcome and in the run's folder. The memory of the run is free when the
        block is left.

        Raises:
            DataError: of the images that all runs share; the run stays, whole as it is.
            Exception: one of `fatal`, or one after which the others cannot go on either (`reason_of`).
        """
        try:
            with self.world.shared_errors():
                yield
        except DataError:
            raise
        except Exception as error:
            self.active.remove(run)  # its state may be that of half a step, which must not be saved
            reason = None if isinstance(error, fatal) else reason_of(run, error, self.world)
            if reason is None:
                raise
            _forget_frames(error)
        else:
            return
        self.outcome.failures[run.plan.name] = reason
        with suppress(RunError):  # on a full disk the printed line has to do
            run.folder.write_failure(reason.splitlines()[0])
        run.release()
        gc.collect()  # networks and compiled functions hold each other
        self._progress.error(reason)

    def finish_trained(self) -> None:
        """Write the results of runs that have had their last epoch; they leave the group."""
        for run in [run for run in self.active if run.trained]:
            with self.isolated(run):
                self.outcome.results[run.plan.name] = finish_run(run)
                self.active.remove(run)
                run.release()

    @contextmanager
    def saved_on_error(self) -> Iterator[None]:
        """A block whose exceptions are those of what all runs share: batches, teachers, the terminal. Saves all runs.

        Raises:
            Exception: the block's own.
        """
        try:
            yield
        except Interrupted:
            raise
        except Exception:
            for run in self.active:
                if run.meters.images:  # amid an epoch; otherwise its checkpoint has everything
                    with suppress(Exception):
                        run.save()
            raise


def _forget_frames(error: BaseException | None) -> None:
    """Clear the variables of the frames that an exception holds on to: among them are a step's tensors."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
