"""Runs before they train: built, and begun once their folders are open (`engine.training.opening`)."""

from collections.abc import Sequence

from common.errors import RequestError
from dataset import BatchStream, DatasetEntry
from engine.checkpoints.frozen_backbone import Backbone
from engine.checkpoints.teachers import Teacher
from engine.protocol.plan import RunPlan
from engine.protocol.recipes import Recipe
from engine.protocol.run_config import run_config
from engine.records.progress import Progress
from engine.training import code_history
from engine.training.failures import forget_failure
from engine.training.opening import code_changes
from engine.training.session import RunSettings, Session
from engine.training.student_run import StudentRun


def build_runs(
    plans: Sequence[RunPlan],
    teachers: Sequence[Teacher],
    entry: DatasetEntry,
    settings: RunSettings,
    backbone: Backbone | None,
    progress: Progress,
) -> list[StudentRun]:
    """Build all runs with their networks, on the CPU: whatever a plan cannot do shows here.

    Raises:
        RequestError: a method refuses its pair, the backbone does not fit, or the batches do not suit the data set.
    """
    runs, world = [], settings.compute.world
    for plan in plans:
        check_batches(plan.recipe, entry, world.size)
        networks = tuple(teacher.network.network for teacher in teachers) if plan.teachers else ()
        weights = backbone if plan.backbone else None
        try:
            runs.append(StudentRun(plan, entry, networks, settings.output, weights, writes=world.is_main))
        except RequestError as refusal:
            if not settings.skip_refused:
                raise
            progress.line(f"left out: {plan.console_name}: {refusal}")
    return runs


def check_batches(recipe: Recipe, entry: DatasetEntry, processes: int) -> None:
    """Raise RequestError unless every batch of a recipe can be trained on, by each of the processes."""
    last = recipe.batch_size if recipe.drop_last else entry.train_size % recipe.batch_size or recipe.batch_size
    if recipe.drop_last and recipe.batch_size > entry.train_size:
        raise RequestError(
            f"--batch_size {recipe.batch_size} is more than the {entry.train_size} training images of {entry.name}; "
            f"give a smaller one"
        )
    if last == 1:
        raise RequestError(
            f"--batch_size {recipe.batch_size} leaves a last batch of one image, on which batch normalisation cannot "
            f"train; choose another one or add --drop_last"
        )
    if last < processes:
        raise RequestError(
            f"--batch_size {recipe.batch_size} leaves a last batch of {last} images for {processes} processes; "
            f"choose another one or add --drop_last"
        )


def begin_run(run: StudentRun, stream: BatchStream, measured: list[dict[str, float]], session: Session) -> None:
    """Bring a run onto the device, to where its checkpoint has it, and write its config.json.

    Args:
        measured: accuracy and loss of each of its teachers on the test set.
    """
    forget_failure(run)
    run.start(session.compute, stream.labels, stream.steps_per_epoch, session.data_digest)
    config = run_config(run.plan, measured, session.environment) | {"data_sha256": session.data_digest}
    run.folder.write_config(config | code_history.config_entries(run.code_history, run.code, run.resumed))


def announce(run: StudentRun, progress: Progress) -> None:
    """Print where a run is written and where it continues, and warn if its code has changed."""
    epoch, step = run.position
    place = f" (continues at epoch {epoch}, step {step})" if run.resumed else ""
    progress.line(f"{run.plan.console_name}: {run.folder.path}{place}")
    if changes := code_changes(run, code_history.last_code(run.code_history)):
        progress.warning(f"{changes}; it goes on with the new code, and tables tell it apart")
    elif run.resumed and run.code_history is None:
        progress.line(f"{run.plan.short_name}: an earlier version began it, with code that is unknown; it goes on")
