"""What becomes of an exception that one run of a group raises: a line for people, and one in the run's folder."""

import contextlib
import gc
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from common.errors import RequestError, RunError
from common.files import write_text
from common.raised import words_of
from engine.member import Member
from engine.parallel import World
from engine.progress import Progress
from models import Features

TRACEBACK = "error.txt"


@dataclass
class Outcome:
    """What became of a group: results of the finished members, reasons of the failed ones, both by the run's name."""

    results: dict[str, dict] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def __or__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.results | other.results, self.failures | other.failures)


def attempted(
    member: Member,
    action: Callable[[], None],
    outcome: Outcome,
    world: World,
    progress: Progress,
    lethal: tuple[type[Exception], ...] = (),
) -> bool:
    """Have a member act, and say whether it could; a failure of its own is told, kept in `outcome`, and ends it.

    Raises:
        Exception: what others cannot go on after either, and whatever is `lethal`.
    """
    try:
        with world.together():
            action()
        return True
    except lethal:
        raise
    except Exception as error:
        reason = failure_of(member, error, world)
        if reason is None:
            raise
    outcome.failures[member.plan.name] = reason
    with contextlib.suppress(RunError):  # on a full disk the line alone must do
        member.folder.write_failure(reason.splitlines()[0])
    release([member])  # now that the exception, which held the step's tensors, is gone
    progress.error(reason)
    return False


def failure_of(member: Member, error: Exception, world: World) -> str | None:
    """What to say of an exception that a member raised, where it is a failure of that run alone.

    An unforeseen one leaves its traceback in `TRACEBACK` in the run's folder.

    Returns:
        One or two lines; None where others cannot go on either: other processes wait for this one amid the step.
    """
    label = member.plan.label
    if isinstance(error, RunError):
        return str(error)
    if isinstance(error, RequestError):
        return f"{label}: {error}"
    if isinstance(error, RuntimeError) and "deterministic" in str(error):
        return f"{label}: {str(error).splitlines()[0].split(', but')[0]}; leave out this method or --deterministic"
    if world.size > 1:
        return None
    path = member.folder.path / TRACEBACK
    with contextlib.suppress(RunError):  # on a full disk the line alone must do
        write_text(path, "".join(traceback.format_exception(error)))
    what = words_of(error)
    if isinstance(error, torch.OutOfMemoryError):
        what = "out of memory; give fewer methods at a time (--group_size) or a smaller --batch_size"
    epoch, step = member.position
    return f"{label}, epoch {epoch}, step {step}: {what}; the traceback is in {path}{_undeclared(error)}"


def _undeclared(error: Exception) -> str:
    """A second line where a method stumbled over a field of `Features` that it reads and did not declare; else none."""
    if "NoneType" not in str(error):
        return ""
    for frame, _ in reversed([*traceback.walk_tb(error.__traceback__)]):
        held = [each for value in frame.f_locals.values() for each in (value if type(value) is tuple else (value,))]
        held = [each for each in held if isinstance(each, Features)]
        # Not what one side alone has: its method declares the sides apart, and may well know why.
        names = [name for name in frame.f_code.co_names if held and all(getattr(f, name, "") is None for f in held)]
        if names:
            needs = ", ".join(f'"{name}"' for name in names)
            return f"\nit reads what it did not declare, which is None; add to the class: needs = ({needs},)"
    return ""


def forget_failure(member: Member) -> None:
    """Remove what an earlier attempt said of its end."""
    for path in (member.folder.failure, member.folder.path / TRACEBACK):
        member.folder.discard(path)


def release(members: Sequence[Member]) -> None:
    """Let go of all tensors of members that have finished or failed, so that their memory serves the others."""
    for member in members:
        plan, folder = member.plan, member.folder
        vars(member).clear()
        member.plan, member.folder = plan, folder
    if members:
        gc.collect()  # networks and compiled functions hold each other
