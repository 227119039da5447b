"""From plans to finished runs: everything that can be wrong is found before data is loaded."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from common.errors import Interrupted, RequestError, RunError
from dataset import DATASETS, Arrays, BatchStream, DatasetEntry, digest, hold_out, load_arrays, without_held_out
from dataset.to_device import resident
from engine.checkpoints.teachers import Teacher
from engine.checkpoints.weights import Backbone
from engine.device.compute import Compute
from engine.device.memory import forget_peak_memory
from engine.device.processes import World, joined_world
from engine.protocol.plan import Code, RunPlan
from engine.protocol.recipes import Recipe
from engine.protocol.run_config import run_config
from engine.records.code_version import changed_files
from engine.records.environment import describe_environment
from engine.records.progress import Progress
from engine.training.evaluation import evaluate
from engine.training.failures import Outcome, attempted, forget_failure, release
from engine.training.loop import CHECKPOINT_SECONDS, StopRequest, stop_requests, train_group
from engine.training.student_run import StudentRun
from engine.training.training_set_pass import survey_group


def run_plans(
    plans: Sequence[RunPlan],
    teachers: Sequence[Teacher],
    *,
    output: Path,
    data_folder: Path,
    compute: Compute,
    overwrite: bool = False,
    skip_refused: bool = False,
    group_size: int | None = None,
    backbone: Backbone | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Outcome:
    """Train all plans, which share data set, held-out part and teachers; those with equal batches form a group.

    Args:
        overwrite: start runs anew that are there; otherwise finished ones are left alone, others continued.
        skip_refused: leave out methods that refuse the pair, saying so, instead of ending there.
        group_size: the most runs that train at a time; all with equal batches where it is None.
        backbone: the frozen weights below the classifiers of the plans that name it.
        checkpoint_seconds: how often runs are saved within an epoch.

    Raises:
        RequestError: a method refuses the pair, the backbone does not fit, the output cannot be written or another
            process writes it, or the data is not to be had or has changed.
        Interrupted: after SIGINT or SIGTERM, also where it came when all was done.
    """
    entry = without_held_out(DATASETS[plans[0].dataset], plans[0].validation)
    with joined_world(compute.device.type) as world, ExitStack() as opened:
        compute, progress = compute.joined(world), Progress(silent=not world.main)
        members = _build(plans, teachers, entry, output, backbone, skip_refused, world, progress)
        finished, remaining = _open(members, overwrite, opened, world, progress)
        if not remaining and not (finished and entry.at_hand(data_folder)):
            return Outcome()
        with world.together():
            data = load_arrays(entry.name, data_folder)
        data_digest = digest(data)
        _report_changed_data(finished, data_digest, progress)
        for member in remaining:
            member.check_data(data_digest)
        if not remaining:
            return Outcome()
        data, held_out = hold_out(data, plans[0].validation) if plans[0].validation else (data, None)
        data = Arrays(*(resident(array, compute.device) for array in data))
        if held_out is not None:
            tested = (resident(array, compute.device) for array in (held_out.test_images, held_out.test_labels))
            held_out = Arrays(data.train_images, data.train_labels, *tested)
        measured = [_measure(teacher, data, entry, compute, progress) for teacher in _wanted(teachers, remaining)]
        environment = describe_environment(compute.device) | compute.describe()
        outcome = Outcome()
        with stop_requests() as stop, _told_how_to_continue(overwrite):
            begun: list[StudentRun] = []
            for group in _groups(remaining, group_size):
                release(begun)  # of the group before, whose memory this one needs
                if _asked_to_stop(world, stop):
                    raise Interrupted
                stream = _stream(group[0], data, entry, compute)
                begun = []
                for member in group:
                    known = measured if member.plan.teachers else []
                    begin = partial(_begin, member, stream, data_digest, known, environment, compute, overwrite)
                    if attempted(member, begin, outcome, world, progress, lethal=(RequestError, RunError)):
                        begun.append(member)
                        progress.line(f"{member.plan.label}: {member.folder.path}{_place(member)}")
                        if changed := _changed_since((member.trained_by or [None])[-1], member):
                            progress.warning(f"{changed}; it goes on with the new code, and tables tell it apart")
                networks = [teacher.network for teacher in _wanted(teachers, begun)]
                stopped = partial(_asked_to_stop, world, stop)
                going_on = survey_group(begun, networks, data, entry, compute, progress, stopped, outcome)
                forget_peak_memory(compute.device)
                outcome |= train_group(
                    going_on, networks, stream, data, held_out, entry, compute, progress, stop, checkpoint_seconds
                )
            if _asked_to_stop(world, stop) and not outcome.failures:
                # All is done, but a script around this command must not go on to its next one.
                raise Interrupted("all runs of this command are finished")
        return outcome


def _asked_to_stop(world: World, stop: StopRequest) -> bool:
    """Whether any of the processes was asked to, known to all of them."""
    return world.any(stop.requested)


@contextmanager
def _told_how_to_continue(overwrite: bool) -> Iterator[None]:
    """The same command continues an interrupted one, but for one that would throw away what it has."""
    try:
        yield
    except Interrupted as stop:
        if overwrite and not str(stop):
            raise Interrupted("the state is saved, the same command without --overwrite continues") from None
        raise


def _build(
    plans: Sequence[RunPlan],
    teachers: Sequence[Teacher],
    entry: DatasetEntry,
    output: Path,
    backbone: Backbone | None,
    skip_refused: bool,
    world: World,
    progress: Progress,
) -> list[StudentRun]:
    """The runs with their networks, on the CPU: whatever a plan can't do shows here."""
    members = []
    for plan in plans:
        _check_batches(plan.recipe, entry, world.size)
        networks = tuple(teacher.network.network for teacher in teachers) if plan.teachers else ()
        weights = backbone if plan.backbone else None
        try:
            members.append(StudentRun(plan, entry, networks, output, weights, writes=world.main))
        except RequestError as refusal:
            if not skip_refused:
                raise
            progress.line(f"left out: {plan.model}, {plan.label}: {refusal}")
    return members


def _wanted(teachers: Sequence[Teacher], members: Sequence[StudentRun]) -> Sequence[Teacher]:
    """The teachers, unless nobody learns from them."""
    return teachers if any(member.plan.teachers for member in members) else ()


def _open(
    members: list[StudentRun], overwrite: bool, opened: ExitStack, world: World, progress: Progress
) -> tuple[list[StudentRun], list[StudentRun]]:
    """The finished members, and those that have something to do: their folders locked, their checkpoints read."""
    with world.together():
        for member in members:
            if overwrite or not member.folder.is_finished():
                opened.enter_context(member.folder.opened())
    finished, remaining = [], []
    with world.together():
        for member in members:
            # Asked again under the lock: its holder may have finished the run meanwhile.
            if not overwrite and member.folder.is_finished():
                member.folder.discard_leftovers()
                where = f"{member.plan.label} in {member.folder.path}"
                progress.line(f"already finished: {where} (--overwrite starts anew)")
                if changed := _changed_since(member.folder.code(), member):
                    progress.warning(f"{changed}; its result is of the former code, --overwrite repeats it")
                finished.append(member)
                continue
            for problem in [] if overwrite else member.read_saved():
                progress.warning(f"{problem}; going on from the checkpoint before it")
            remaining.append(member)
    return finished, remaining


def _begin(
    member: StudentRun,
    stream: BatchStream,
    data_digest: str,
    measured: list[dict[str, float]],
    environment: dict[str, Any],
    compute: Compute,
    overwrite: bool,
) -> None:
    """Bring a member onto the device, to where its checkpoint has it, and write what it is."""
    if overwrite:
        member.folder.clear()  # not before all else is known to be right
    forget_failure(member)
    member.start(compute, stream.labels, stream.steps_per_epoch, data_digest)
    made_by = {"data_sha256": data_digest, "code": member.code, "earlier_code": []}
    if member.resumed and not member.trained_by:  # nobody knows by what, so nothing is said of it
        made_by["code"] = None
    elif member.resumed:
        goes_on = member.trained_by[-1] == member.code
        made_by["earlier_code"] = member.trained_by[:-1] if goes_on else member.trained_by
    member.folder.write_config(run_config(member.plan, measured, environment) | made_by)


def _changed_since(made_by: Code | None, member: StudentRun) -> str:
    """What of its code has changed since the run was made, in words; "" for nothing, or where nobody can say."""
    files = changed_files(made_by, member.code) if made_by else []
    return f"{member.plan.label}: {', '.join(files)} changed since {member.folder.path} was made" if files else ""


def _groups(members: Sequence[StudentRun], size: int | None) -> list[list[StudentRun]]:
    """Members by what their batches depend on, in the order given, and at most so many in each group."""
    groups: dict[tuple, list[StudentRun]] = {}
    for member in members:
        recipe = member.plan.recipe
        views = member.method.views
        batches = (member.plan.seed, recipe.batch_size, recipe.drop_last, recipe.augmentation, views)
        groups.setdefault(batches, []).append(member)
    size = size or len(members)
    return [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]


def _stream(member: StudentRun, data: Arrays, entry: DatasetEntry, compute: Compute) -> BatchStream:
    recipe = member.plan.recipe
    return BatchStream(
        data.train_images,
        data.train_labels,
        entry,
        recipe.augmentation,
        recipe.batch_size,
        member.plan.seed,
        recipe.drop_last,
        compute.device,
        channels_last=True,
        views=member.method.views,
    )


def _report_changed_data(finished: list[StudentRun], data_digest: str, progress: Progress) -> None:
    for member in finished:
        if member.folder.data_digest() not in (None, data_digest):
            progress.warning(
                f"{member.folder.path} was finished on other data than lies there now; "
                f"bring the former files back, or run it anew with --overwrite"
            )


def _check_batches(recipe: Recipe, entry: DatasetEntry, processes: int) -> None:
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


def _measure(teacher: Teacher, data: Arrays, entry: DatasetEntry, compute: Compute, progress: Progress):
    """Test a teacher before anyone learns from it: published checkpoints are not always what they claim."""
    compute.place(teacher.network)
    result = evaluate(teacher.network, data, entry, compute)
    progress.line(f"teacher {teacher.file.model} ({teacher.file.path}): Acc@1 {result['top1']:.2f}")
    return {key: result[key] for key in ("top1", "top5", "loss")}


def _place(member: StudentRun) -> str:
    epoch, step = member.position
    return (
        "" if (epoch, step) == (1 - member.method.initial_epochs, 0) else f" (continues at epoch {epoch}, step {step})"
    )
