"""The training loop. A group of students shares one stream of batches and one pass of the teachers over each."""

import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import torch
from torch import Tensor

from common.errors import Interrupted
from dataset import Arrays, BatchStream, DatasetEntry
from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.compute import Compute
from engine.device.timer import moment
from engine.records.progress import Progress
from engine.training.failures import Outcome, attempted
from engine.training.student_run import StudentRun
from models import Features

# How often runs are saved within an epoch, unless --checkpoint_seconds says otherwise. Epochs of large pairs take long.
CHECKPOINT_SECONDS = 600.0


class StopRequest:
    """Whether someone asked the command to stop (`stop_requests`)."""

    requested = False


def train_group(
    members: Sequence[StudentRun],
    teachers: Sequence[InferenceNetwork],
    stream: BatchStream,
    data: Arrays,
    held_out: Arrays | None,
    entry: DatasetEntry,
    compute: Compute,
    progress: Progress,
    stop: StopRequest,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Outcome:
    """Train members that share batches and teachers to their ends.

    Members may stand at different positions (one may have been interrupted, another be new): the stream
    starts at the earliest, and a member joins when the stream reaches it. One that fails, by whatever exception,
    leaves the group.

    Args:
        held_out: what members are measured on beside the test set, as its own record's test set; None for nothing.

    Raises:
        Interrupted: a stop was asked for and members remain; every member's state is saved.
        Exception: of what members share, the batches and the teachers' pass; states are saved where they can be.
    """
    outcome, active = Outcome(), list(members)
    needs = {name for member in members for name in member.method.reads_of_teacher()}
    teach = teacher_pass(teachers, needs, compute)

    def attempt(member: StudentRun, action: Callable, *arguments) -> bool:
        """Let a member act; where it fails, it leaves the group. Returns whether it is still in."""
        well = False
        try:
            well = attempted(member, partial(action, *arguments), outcome, compute.world, progress)
        finally:
            if not well:
                active.remove(member)  # its state may be that of half a step
        return member in active

    def save_where_asked(members: Sequence[StudentRun]) -> None:
        """Save members where a stop was asked for, and then stop; or where the last checkpoint is old."""
        nonlocal saved_at
        old = time.monotonic() - saved_at >= checkpoint_seconds
        # Where no member is left, all that can be said of the run is in the outcome.
        if not active or not compute.world.any(stop.requested or old):
            return
        for member in list(members):
            attempt(member, member.save)
        saved_at = time.monotonic()
        if active and compute.world.any(stop.requested):
            raise Interrupted

    # Of a clock that never jumps. What it decides has no influence on the result.
    saved_at = time.monotonic()
    with _saved_on_error(active):
        for member in [m for m in active if m.finished]:
            # Cut off between its last epoch and its result.
            attempt(member, _conclude, member, outcome, active)
        while active:
            epoch, first_step = min(member.position for member in active)
            clock = moment(compute.device)
            progress.begin(epoch, active[0].plan.recipe.epochs, stream.steps_per_epoch, first_step)
            for batch in stream.epoch(epoch, first_step):
                made = moment(compute.device)
                features = teach(batch.images)
                taught = moment(compute.device)
                for member in [m for m in active if m.position == (epoch, batch.step)]:
                    shared = (clock, taught if member.plan.teachers else made)
                    attempt(member, member.step, batch, features, shared)
                progress.advance()
                save_where_asked([m for m in active if m.position == (epoch, batch.step + 1)])
                if not active:
                    break
                clock = moment(compute.device)
            progress.end()
            for member in [m for m in active if m.position == (epoch, stream.steps_per_epoch)]:
                initial = member.initial
                if not attempt(member, member.finish_epoch, data, held_out, entry):
                    continue
                if initial:
                    progress.initial_epoch(member.plan, member.history.initial[-1])
                else:
                    progress.epoch(member.plan, member.history.epochs[-1], member.history.best)
                if member.finished:
                    attempt(member, _conclude, member, outcome, active)
            save_where_asked([])  # they all have just been
    return outcome


@contextmanager
def _saved_on_error(active: Sequence[StudentRun]):
    """Save what members have learned where something breaks that they share: batches, teachers, the terminal."""
    try:
        yield
    except Interrupted:
        raise
    except Exception:
        for member in active:
            if member.meters is not None:  # amid an epoch; else its checkpoint holds all
                with suppress(Exception):
                    member.save()
        raise


def _conclude(member: StudentRun, outcome: Outcome, active: list[StudentRun]) -> None:
    outcome.results[member.plan.name] = member.finish()
    active.remove(member)


def teacher_pass(
    teachers: Sequence[InferenceNetwork], needs: Collection[str], compute: Compute
) -> Callable[[Tensor], tuple[Features, ...]]:
    """What turns a batch of images B×3×H×W into each teacher's features: the logits and the fields in `needs`."""

    def look(images: Tensor) -> tuple[Features, ...]:
        return tuple(teacher.features(images).only(needs) for teacher in teachers)

    look = compute.compiled(look)

    def teach(images: Tensor) -> tuple[Features, ...]:
        with torch.inference_mode(), compute.autocast():
            seen = look(compute.world.shard(images))
        # Students' losses need their gradients' other factor, and tensors made in inference mode can't be kept for
        # that. The copies also outlive the memory of a CUDA graph.
        seen = [features.only(needs, copy=True) for features in seen]
        return tuple(compute.world.gather_features(features, len(images)) for features in seen)

    return teach


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """SIGINT and SIGTERM ask to stop after the current step; a second SIGINT stops at once, unsaved."""
    stop = StopRequest()

    def handle(signum, frame):
        if stop.requested and signum == signal.SIGINT:
            raise KeyboardInterrupt
        stop.requested = True

    previous = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
