"""From plans to finished runs: everything that can be wrong is found before data is loaded."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch

from common.errors import Interrupted, RequestError, RunError
from common.messages import counted
from dataset import (
    DATASETS,
    Arrays,
    Batching,
    BatchStream,
    LeftOut,
    check_images,
    digest,
    hold_out,
    load_arrays,
    without_held_out,
)
from dataset.to_device import DeviceArrays, resident, resident_arrays
from engine.checkpoints.frozen_backbone import Backbone
from engine.checkpoints.teachers import Teacher
from engine.device.memory import reset_peak_memory
from engine.device.processes import process_group
from engine.protocol.names import distinct_names
from engine.protocol.plan import RunPlan
from engine.records.environment import describe_environment
from engine.records.progress import Progress
from engine.records.time_left import TimeLeft
from engine.training.failures import Outcome
from engine.training.group import Group
from engine.training.loop import train_group
from engine.training.opening import check_data, open_folders
from engine.training.preparation import announce, begin_run, build_runs
from engine.training.session import Overwrite, RunSettings, Session
from engine.training.student_run import StudentRun
from engine.training.teacher_measurement import measure_teachers
from engine.training.training_set_pass import training_set_pass


def run_plans(
    plans: Sequence[RunPlan], teachers: Sequence[Teacher], settings: RunSettings, backbone: Backbone | None = None
) -> Outcome:
    """Train all plans, which share data set, held-out part and teachers; those with equal batches form a group.

    Args:
        backbone: the frozen weights below the classifiers of the plans that name it.

    Raises:
        RequestError: a method refuses the pair, the backbone does not fit, the output cannot be written or another
            process writes it, or the data is missing or has changed.
        Interrupted: after one of `common.signals.STOP_SIGNALS`, also if it came when all was done.
    """
    entry = without_held_out(DATASETS[plans[0].dataset], plans[0].validation)
    with process_group(settings.compute.device.type) as world, ExitStack() as locks:
        compute, progress = settings.compute.in_world(world), Progress(silent=not world.is_main)
        settings = replace(settings, compute=compute)
        runs = build_runs(plans, teachers, entry, settings, backbone, progress)
        progress.names = distinct_names([run.plan for run in runs])
        finished, unfinished = open_folders(runs, settings, locks, progress)
        if not unfinished and not (finished and entry.at_hand(settings.data_folder)):
            return Outcome()
        left_out = LeftOut(settings.skip_damaged)
        with world.shared_errors():
            arrays, found = check_images(load_arrays(entry.name, settings.data_folder, left_out))
            data_digest = digest(arrays)
            on_other_data = check_data(finished, unfinished, data_digest, settings, locks)
            report_changed_data(on_other_data, progress)
            unfinished = [run for run in runs if run in unfinished or run.anew]
            if not unfinished:
                return Outcome()
            found.raise_damage(left_out.allowed)
        report_count(unfinished, len(runs) - len(unfinished), settings.group_size, progress)
        for note in (*entry.notes, *found.hints):
            progress.line(note)
        left_out.add_checked(found.damaged, found.images)
        environment = describe_environment(compute.device) | compute.describe()
        data, held_out = on_device(arrays, plans[0].validation, compute.device)
        session = Session(settings, entry, data, held_out, data_digest, left_out, environment, progress)
        return train_groups(unfinished, teachers_of(unfinished, teachers), session, len(runs) - len(unfinished))


def train_groups(runs: Sequence[StudentRun], teachers: Sequence[Teacher], session: Session, finished: int) -> Outcome:
    """Train runs group by group; their folders are open.

    Args:
        finished: how many runs of the command were finished before.

    Raises:
        Interrupted: as `run_plans`.
    """
    outcome = Outcome()
    with session.stop.on_signals(), advice_to_continue(session.settings.overwrite):
        measured = measure_teachers(teachers, session)
        for run in runs:
            if run.anew:
                run.folder.begin_anew()  # not before all else is known to be right
        images = session.entry.train_size  # the clock must not hold the session, which holds the clock
        session.progress.time_left = TimeLeft(lambda: steps_left(runs, outcome, images))
        begun = finished
        for group in groups_of(runs, session.settings.group_size):
            if begun > finished:
                gc.collect()  # the networks of the group before: they and compiled functions hold each other
            if session.stop_requested():
                raise Interrupted
            if len(group) < len(runs):
                session.progress.begin_group(begun + 1, begun + len(group), finished + len(runs))
            begun += len(group)
            train_together(group, teachers, measured, session, outcome)
        if session.stop_requested() and not outcome.failures:
            # All is done, but a script around this command must not go on to its next one.
            raise Interrupted("all runs of this command are finished")
    return outcome


def train_together(
    runs: Sequence[StudentRun],
    teachers: Sequence[Teacher],
    measured: list[dict[str, float]],
    session: Session,
    outcome: Outcome,
) -> None:
    """Begin the runs of a group and train them to their ends.

    Args:
        measured: accuracy and loss of each teacher on the test set.
        outcome: gets what becomes of each run.
    """
    world, progress = session.compute.world, session.progress
    group, stream = Group(runs, outcome, world, progress), make_stream(runs[0], session)
    for run in runs:
        with group.isolated(run, fatal=(RequestError, RunError)):
            begin_run(run, stream, measured if run.plan.teachers else [], session)
        if run in group.active:
            announce(run, progress)
    networks = [teacher.network for teacher in teachers_of(group.active, teachers)]
    training_set_pass(group, networks, session)
    reset_peak_memory(session.compute.device)
    train_group(group, networks, stream, session)


@contextmanager
def advice_to_continue(overwrite: Overwrite | None) -> Iterator[None]:
    """Say of an interrupted command with --overwrite that it continues without this flag."""
    try:
        yield
    except Interrupted as stop:
        if overwrite == "all" and not str(stop):
            raise Interrupted("the state is saved, the same command without --overwrite continues") from None
        raise
    except KeyboardInterrupt:
        if overwrite == "all":
            raise KeyboardInterrupt(
                "nothing is saved since the last checkpoint, where the same command without --overwrite continues"
            ) from None
        raise


def on_device(arrays: Arrays, held_out: int, device: torch.device) -> tuple[DeviceArrays, DeviceArrays | None]:
    """Put a data set on the device, where it fits in memory.

    Returns:
        It without `held_out` training images, and a record whose test set these are; None for 0 images.
    """
    if not held_out:
        return resident_arrays(arrays, device), None
    rest, validation = hold_out(arrays, held_out)
    data, tested = resident_arrays(rest, device), validation.test_images
    labels = resident(validation.test_labels, device)
    return data, data._replace(test_images=resident(tested, device), test_labels=labels)


def groups_of(runs: Sequence[StudentRun], size: int | None) -> list[list[StudentRun]]:
    """Part runs by what their batches depend on, in the order given, into groups of at most `size`."""
    groups: dict[tuple, list[StudentRun]] = {}
    for run in runs:
        recipe = run.plan.recipe
        batches = (run.plan.seed, recipe.batch_size, recipe.drop_last, recipe.augmentation, run.method.views)
        groups.setdefault(batches, []).append(run)
    size = size or len(runs)
    return [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]


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


def batching_of(plan: RunPlan, views: int = 1) -> Batching:
    """How the batches of a run are made."""
    recipe = plan.recipe
    return Batching(
        recipe.augmentation, recipe.batch_size, plan.seed, recipe.drop_last, channels_last=True, views=views
    )


def steps_left(runs: Sequence[StudentRun], outcome: Outcome, images: int) -> int:
    """The number of steps that runs which have not failed have still to take over so many training images."""
    going = [run for run in runs if run.plan.name not in outcome.failures]
    return sum(run.steps_left(batching_of(run.plan).steps_per_epoch(images)) for run in going)


def teachers_of(runs: Sequence[StudentRun], teachers: Sequence[Teacher]) -> Sequence[Teacher]:
    """The teachers, if any of the runs learns from them."""
    return teachers if any(run.plan.teachers for run in runs) else ()


def report_changed_data(finished: Sequence[StudentRun], progress: Progress) -> None:
    """Tell of finished runs whose data has changed since."""
    for run in finished:
        if run.anew:
            progress.line(f"{run.plan.short_name}: it was finished on other data and starts anew")
        else:
            progress.warning(
                f"{run.plan.short_name}: it was finished on other data than lies there now; "
                f"bring the former files back, or run it anew with --overwrite changed"
            )
