"""Which runs of a command train side by side, on which batches, and how many steps there are to take."""

from collections.abc import Sequence

from common.messages import counted
from dataset import Batching, BatchStream
from engine.protocol.plan import RunPlan
from engine.records.progress import Progress
from engine.training.failures import Outcome
from engine.training.session import Session
from engine.training.student_run import StudentRun


def groups_of(runs: Sequence[StudentRun], size: int | None) -> list[list[StudentRun]]:
    """Part runs by what their batches depend on, in the order given, into groups of at most `size`."""
    groups: dict[tuple, list[StudentRun]] = {}
    for run in runs:
        recipe = run.plan.recipe
        batches = (run.plan.seed, recipe.batch_size, recipe.drop_last, recipe.augmentation, run.method.views)
        groups.setdefault(batches, []).append(run)
    size = size or len(runs)
    return [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]


def batching_of(plan: RunPlan, views: int = 1) -> Batching:
    """How the batches of a run are made."""
    recipe = plan.recipe
    return Batching(
        recipe.augmentation, recipe.batch_size, plan.seed, recipe.drop_last, channels_last=True, views=views
    )


def make_stream(run: StudentRun, session: Session) -> BatchStream:
    """The batches of a run, and of all runs of its group."""
    batching, data = batching_of(run.plan, run.method.views), session.data
    return BatchStream(data.train_images, data.train_labels, session.entry, batching, session.compute.device)


def report_count(unfinished: Sequence[StudentRun], finished: int, size: int | None, progress: Progress) -> None:
    """Print how many runs there are to train, if a command makes more than one."""
    if len(unfinished) + finished > 1:
        groups = len(groups_of(unfinished, size))
        together = "together" if groups == 1 else f"in {groups} groups, one after the other"
        rest = f", {finished} already finished" if finished else ""
        progress.line(f"{counted(len(unfinished), 'run')} to train {together}{rest}")


def steps_left(runs: Sequence[StudentRun], outcome: Outcome, images: int) -> int:
    """The number of steps that runs which have not failed have still to take over so many training images."""
    going = [run for run in runs if run.plan.name not in outcome.failures]
    return sum(run.steps_left(batching_of(run.plan).steps_per_epoch(images)) for run in going)
