"""Runs before they train: built, and begun once their folders are open (`engine.training.opening`)."""

from collections.abc import Sequence

from common.errors import RequestError
from common.memory import gibibytes, memory_bytes, tensor_bytes
from common.messages import counted
from dataset import BatchStream, DatasetEntry
from engine.checkpoints.start_weights import StartWeights
from engine.checkpoints.teachers import Teacher
from engine.protocol.plan import RunPlan
from engine.protocol.recipes import LATER, Recipe
from engine.protocol.run_config import Figures, run_config
from engine.records.progress import Progress
from engine.training import code_history
from engine.training.failures import forget_failure
from engine.training.opening import code_changes
from engine.training.session import RunSettings, Session
from engine.training.single_image import why_not_on_one_image
from engine.training.student_run import StudentRun
from engine.training.teacher_classes import check_logits, class_warnings
from engine.training.untrained_classifier import leaves_classifier_untrained
from models import MODELS
from models.by_image_size import better_network


def build_runs(
    plans: Sequence[RunPlan],
    teachers: Sequence[Teacher],
    entry: DatasetEntry,
    settings: RunSettings,
    start: StartWeights | None,
    progress: Progress,
) -> list[StudentRun]:
    """Build all runs with their networks, on the CPU: whatever a plan cannot do shows here.

    Raises:
        RequestError: a method refuses its pair or reads the logits of a teacher of other classes, the start weights do
            not fit, or the batches do not suit the data set.
    """
    runs: list[StudentRun] = []
    world = settings.compute.world
    for plan in plans:
        check_batches(plan.recipe, entry, world.size)
        check_frozen(plan)
        networks = tuple(teacher.network.network for teacher in teachers) if plan.teachers else ()
        weights = start if plan.backbone or plan.init else None
        try:
            check_logits(plan, teachers)
            run = StudentRun(plan, entry, networks, settings.output, weights, writes=world.is_main)
            if last_batch(plan.recipe, entry) == 1 and (reason := why_not_on_one_image(run, networks, entry)):
                raise RequestError(
                    f"--batch_size {plan.recipe.batch_size} leaves a last batch of one image, on which {reason}; "
                    f"{other_batches(plan.recipe, entry)}"
                )
            if not plan.weights.gamma and plan.unlabelled and leaves_classifier_untrained(run, networks, entry):
                raise RequestError(
                    f"--unlabelled: without labels (--gamma 0) {plan.method} does not train the classifier of "
                    f"{plan.model}; {advice_to_train_classifier(teachers)}"
                )
            if not settings.allow_large and plan.model not in {other.plan.model for other in runs}:
                check_cost(run)
            runs.append(run)
        except RequestError as refusal:
            if not settings.skip_refused:
                raise
            progress.line(f"left out: {plan.console_name}: {refusal}")
        check_memory(runs, len(plans))
    if start is not None:
        say_classifiers(runs, start, progress)
    say_large_batches([run.plan for run in runs], entry, progress)
    for warning in class_warnings([run.plan for run in runs], teachers):
        progress.warning(warning)
    return runs


def advice_to_train_classifier(teachers: Sequence[Teacher]) -> str:
    """Advice for a run whose losses leave the classifier untrained."""
    if any(teacher.fit.misfit for teacher in teachers):  # whose predictions cannot be learned from
        return "its teacher has other classes, so give a --gamma above 0, without --unlabelled_only"
    return "add --alpha 1, the loss on the teacher's predictions"


def check_cost(run: StudentRun) -> None:
    """Raise RequestError for a network that is beyond reason for images of this size."""
    name, size = run.plan.model, run.student.image_size
    cost, better = better_network(run.student, MODELS[name].family)
    if cost:
        raise RequestError(
            f"{name} takes {cost / 1e9:.0f} GMAC for an image of {size}×{size} pixels, as it is made for small ones;\n"
            f"choose another network, such as {better}, or smaller images, or insist with --allow_large"
        )


def check_memory(runs: Sequence[StudentRun], planned: int) -> None:
    """Raise RequestError if all planned runs, which are as large as those built so far, do not fit in memory."""
    if not runs or len(runs) & (len(runs) - 1):  # at 1, 2, 4, 8, ... runs
        return
    needed, available = sum(tensor_bytes(run.student, run.method) for run in runs) / len(runs) * planned, memory_bytes()
    if available is not None and needed > available:
        raise RequestError(
            f"the networks of {counted(planned, 'run')} take {gibibytes(needed)} of {gibibytes(available)} memory; "
            f"give fewer values of --trial or of other flags at a time"
        )


def check_frozen(plan: RunPlan) -> None:
    """Raise RequestError if random weights are to be kept below the classifier, or the classifier is all there is."""
    for name in ("freeze_epochs", "layer_decay"):
        if plan.backbone is not None and getattr(plan.recipe, name) != LATER[name]:
            raise RequestError(
                f"--{name} changes nothing in a probe, which trains the last linear layer alone; leave it out, or "
                f"give --{name} {LATER[name]:g}"
            )
    if plan.recipe.freeze_epochs and plan.init is None:
        raise RequestError(
            f"--freeze_epochs {plan.recipe.freeze_epochs} keeps the weights below the classifier, which are random; "
            f"start from weights (--init in train_teacher.py, --init_s in train_student.py), or give --freeze_epochs 0"
        )


def last_batch(recipe: Recipe, entry: DatasetEntry) -> int:
    """The number of images in the smallest batch of an epoch."""
    size = recipe.batch_size
    return size if recipe.drop_last else entry.train_size % size or min(size, entry.train_size)


def other_batches(recipe: Recipe, entry: DatasetEntry) -> str:
    """Advice for a recipe whose last batch is one image."""
    size = recipe.batch_size
    other = next((each for each in range(size + 1, entry.train_size + 1) if entry.train_size % each != 1), 2)
    return f"give --batch_size {other}" + ("" if size == 1 else " or add --drop_last")


def check_batches(recipe: Recipe, entry: DatasetEntry, processes: int) -> None:
    """Raise RequestError unless there is a batch, and each of the processes gets a part of every one."""
    if recipe.drop_last and recipe.batch_size > entry.train_size:
        raise RequestError(
            f"--batch_size {recipe.batch_size} is more than the {entry.train_size} training images of {entry.name}, "
            f"and smaller batches are dropped; give --batch_size {entry.train_size} or less, or add --no-drop_last"
        )
    last = last_batch(recipe, entry)
    if last < processes:
        few = recipe.batch_size < processes
        advice = f"give {processes} or more" if few else "choose another one or add --drop_last"
        raise RequestError(
            f"--batch_size {recipe.batch_size} leaves a last batch of {last} images for {processes} processes; {advice}"
        )


def say_classifiers(runs: Sequence[StudentRun], start: StartWeights, progress: Progress) -> None:
    """Print whether networks that start from a file have its classifier or a new one."""
    for run in runs:
        if run.plan.init is not None:
            how = "with its classifier" if run.keeps_classifier else "below a new classifier"
            progress.line(f"{run.plan.model} starts from {start.path}, {how}")
            return


def say_large_batches(plans: Sequence[RunPlan], entry: DatasetEntry, progress: Progress) -> None:
    """Print which batch sizes are more than the training set has images, so that each step takes all of it."""
    for size in dict.fromkeys(plan.recipe.batch_size for plan in plans if plan.recipe.batch_size > entry.train_size):
        progress.line(
            f"--batch_size {size} is more than the {entry.train_size} training images of {entry.name}: "
            f"each epoch is one step on all of them"
        )


def begin_run(run: StudentRun, stream: BatchStream, measured: Sequence[Figures], session: Session) -> None:
    """Bring a run onto the device, to where its checkpoint has it, and write its config.json.

    Args:
        measured: accuracy and loss of each of its teachers on the test set, and its size.
    """
    forget_failure(run)
    run.start(session.compute, stream.labels, stream.steps_per_epoch, session.data_digest)
    config = run_config(run.plan, measured, session.environment) | {
        # Without losses of its own a method's teachers act by their mean prediction alone.
        "teacher_order_matters": bool(len(measured) > 1 and run.plan.weights.beta and run.method.places_teachers()),
        "data_sha256": session.data_digest,
        "test_images": len(session.data.test_labels),
        "test_class_images": session.data.test_labels.bincount(minlength=session.entry.num_classes).tolist(),
    }
    if session.left_out.reasons:
        config["left_out"] = dict(session.left_out.reasons)
    run.folder.write_config(config | code_history.config_entries(run.code_history, run.code, run.resumed))


def announce(run: StudentRun, progress: Progress) -> None:
    """Print where a run is written and where it continues, and warn if its code has changed."""
    epoch, step = run.position
    place = f" (continues at epoch {epoch}, step {step})" if run.resumed else ""
    progress.line(f"{progress.name(run.plan)}: {run.folder.path}{place}")
    if changes := code_changes(run, code_history.last_code(run.code_history)):
        progress.warning(f"{changes}; it goes on with the new code, and tables tell it apart")
    elif run.resumed and run.code_history is None:
        progress.line(f"{run.plan.short_name}: an earlier version began it, with code that is unknown; it goes on")
