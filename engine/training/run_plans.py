"""From plans to finished runs: everything that can be wrong is found before data is loaded."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch

from common.errors import Interrupted, RequestError, RunError
from dataset import (
    DATASETS,
    Arrays,
    LeftOut,
    Unlabelled,
    add_unlabelled,
    check_images,
    digest,
    hold_out,
    load_arrays,
    with_unlabelled,
    without_held_out,
)
from dataset.image_check import check_unlabelled
from dataset.to_device import DeviceArrays, resident, resident_arrays
from dataset.unlabelled import also_tested
from engine.checkpoints.start_weights import StartWeights
from engine.checkpoints.teachers import Teacher
from engine.device.memory import reset_peak_memory
from engine.device.processes import process_group
from engine.device.world import World
from engine.protocol.names import distinct_names
from engine.protocol.plan import RunPlan
from engine.protocol.run_config import Figures
from engine.records.environment import describe_environment
from engine.records.progress import Progress
from engine.records.run_list import write_run_list
from engine.records.time_left import TimeLeft
from engine.training.evaluation import check_backbone
from engine.training.failures import Outcome
from engine.training.group import Group
from engine.training.grouping import groups_of, make_stream, report_count, steps_left
from engine.training.loop import train_group
from engine.training.opening import check_data, open_folders, report_changed_data
from engine.training.preparation import announce, begin_run, build_runs
from engine.training.session import Overwrite, RunSettings, Session
from engine.training.student_run import StudentRun
from engine.training.teacher_measurement import measure_teachers
from engine.training.training_set_pass import training_set_pass


def run_plans(
    plans: Sequence[RunPlan], teachers: Sequence[Teacher], settings: RunSettings, start: StartWeights | None = None
) -> Outcome:
    """Train all plans, which share data set, held-out part and teachers; those with equal batches form a group.

    Args:
        start: the weights from which the plans that name them start.

    Raises:
        RequestError: a method refuses the pair, the start weights do not fit, the output cannot be written or another
            process writes it, or the data is missing or has changed.
        Interrupted: after one of `common.signals.STOP_SIGNALS`, also if it came when all was done.
    """
    unlabelled = settings.unlabelled
    entry = with_unlabelled(without_held_out(DATASETS[plans[0].dataset], plans[0].validation), unlabelled)
    with process_group(settings.compute.device.type) as world, ExitStack() as locks:
        check_same_request(plans, settings, world)
        compute, progress = settings.compute.in_world(world), Progress(silent=not world.is_main)
        settings = replace(settings, compute=compute)
        runs = build_runs(plans, teachers, entry, settings, start, progress)
        progress.names = distinct_names([run.plan for run in runs])
        if settings.run_list is not None and world.is_main:
            write_run_list(settings.run_list, [run.folder.path for run in runs])
        finished, unfinished = open_folders(runs, settings, locks, progress)
        if not unfinished and not (finished and entry.at_hand(settings.data_folder)):
            return Outcome()
        left_out = LeftOut(settings.skip_bad_images)
        with world.shared_errors():
            arrays, found = check_images(load_arrays(entry.name, settings.data_folder, left_out))
            data_digest = digest(arrays)
            on_other_data = check_data(finished, unfinished, data_digest, settings, locks)
            report_changed_data(on_other_data, progress)
            unfinished = [run for run in runs if run in unfinished or run.anew]
            if not unfinished:
                return Outcome()
            found.raise_damage(left_out.allowed)
            if unlabelled is not None:
                unlabelled.files.left_out = left_out
                looked = check_unlabelled(unlabelled.files, arrays.test_images)
                looked.raise_damage(left_out.allowed)
                found = found.beside(looked)
        report_count(unfinished, len(runs) - len(unfinished), settings.group_size, progress)
        for note in (*entry.notes, *(unlabelled.notes if unlabelled else ()), *found.hints):
            progress.line(note)
        left_out.add_checked(found.damaged, found.images)
        environment = describe_environment(compute.device) | compute.describe()
        with world.shared_errors():
            data, held_out = on_device(arrays, plans[0].validation, unlabelled, compute.device)
        for note in also_tested(data) if unlabelled else ():
            progress.warning(note)
        session = Session(settings, entry, data, held_out, data_digest, left_out, environment, progress)
        if start is not None:
            check_backbone(unfinished[0].student, start.path, data, entry, compute)
        return train_groups(unfinished, teachers_of(unfinished, teachers), session, len(runs) - len(unfinished))


def check_same_request(plans: Sequence[RunPlan], settings: RunSettings, world: World) -> None:
    """Raise RequestError unless all processes of torchrun have the same runs to train in the same way.

    On several machines each has a command of its own; other steps would make them wait for each other or break off.
    """
    how = (settings.overwrite, settings.continue_changed, settings.skip_refused, settings.group_size)
    if not world.agree(repr(([plan.run_id for plan in plans], how))):
        raise RequestError(
            f"rank {world.rank} of {world.size}: the processes were started with different flags; "
            f"give all of them the same command"
        )


def train_groups(runs: Sequence[StudentRun], teachers: Sequence[Teacher], session: Session, finished: int) -> Outcome:
    """Train runs group by group; their folders are open.

    Args:
        finished: how many runs of the command were finished before.

    Raises:
        Interrupted: as `run_plans`.
    """
    outcome = Outcome()
    with session.stop.on_signals():
        measured = measure_teachers(teachers, session)
        for run in runs:
            if run.anew:
                run.folder.begin_anew()  # not before all else is known to be right
        images = session.entry.train_size  # the clock must not hold the session, which holds the clock
        session.progress.time_left = TimeLeft(lambda: steps_left(runs, outcome, images))
        begun = finished
        with advice_to_continue(session.settings.overwrite):
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
    measured: Sequence[Figures],
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


def on_device(
    arrays: Arrays, held_out: int, unlabelled: Unlabelled | None, device: torch.device
) -> tuple[DeviceArrays, DeviceArrays | None]:
    """Put a data set on the device, where it fits in memory, with images without labels in its training set.

    Returns:
        It without `held_out` training images, and a record whose test set these are; None for 0 images.

    Raises:
        RequestError, DataError: images without labels do not fit in memory, or one cannot be decoded.
    """
    if not held_out:
        return resident_arrays(add_unlabelled(arrays, unlabelled), device), None
    rest, validation = hold_out(arrays, held_out)
    data, tested = resident_arrays(add_unlabelled(rest, unlabelled), device), validation.test_images
    labels = resident(validation.test_labels, device)
    return data, data._replace(test_images=resident(tested, device), test_labels=labels)


def teachers_of(runs: Sequence[StudentRun], teachers: Sequence[Teacher]) -> Sequence[Teacher]:
    """The teachers, if any of the runs learns from them."""
    return teachers if any(run.plan.teachers for run in runs) else ()
