"""What becomes of an exception that one run of a group raises: a line for people, and one in the run's folder."""

import contextlib
import gc
import linecache
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import torch

from common.errors import RequestError, RunError
from common.files import write_text
from common.messages import words_of
from distiller_zoo import Method
from engine.device.processes import World
from engine.records.progress import Progress
from engine.training.student_run import StudentRun
from models import Features

TRACEBACK = "error.txt"
FIELDS = {field.name for field in fields(Features)}


@dataclass
class Outcome:
    """What became of a group: results of the finished members, reasons of the failed ones, both by the run's name."""

    results: dict[str, dict] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def __or__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.results | other.results, self.failures | other.failures)


def attempted(
    member: StudentRun,
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


def failure_of(member: StudentRun, error: Exception, world: World) -> str | None:
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
    return f"{label}, epoch {epoch}, step {step}: {what}; the traceback is in {path}{_undeclared(error, member.method)}"


def _undeclared(error: Exception, method: Method) -> str:
    """A second line where a method stumbled over a field of `Features` that it reads and did not declare; else none."""
    if "NoneType" not in str(error):
        return ""
    declared = {*method.reads_of_student(), *method.reads_of_teacher()}
    # Not the outermost frame, which goes on: Python would keep its variables, and with them the exception.
    for frame, number in reversed([*traceback.walk_tb(error.__traceback__)][1:]):
        held = {name: value for name, value in frame.f_locals.items() if _features_in(value)}
        line = linecache.getline(frame.f_code.co_filename, number)
        for variable, name in re.findall(rf"\b({'|'.join(held) or ' '})(?:\[\w+\])?\.(\w+)", line):
            if name in FIELDS - declared and all(getattr(each, name) is None for each in _features_in(held[variable])):
                where = "needs (or to student_needs or teacher_needs)"
                return f'\nit reads {name}, which is None because it is not declared; add "{name}" to {where}'
    return ""


def _features_in(value: object) -> list[Features]:
    """A method's features, or those of several teachers."""
    return [each for each in (value if type(value) is tuple else (value,)) if isinstance(each, Features)]


def forget_failure(member: StudentRun) -> None:
    """Remove what an earlier attempt said of its end."""
    for path in (member.folder.failure, member.folder.path / TRACEBACK):
        member.folder.discard(path)


def release(members: Sequence[StudentRun]) -> None:
    """Let go of all tensors of members that have finished or failed, so that their memory serves the others."""
    for member in members:
        plan, folder = member.plan, member.folder
        vars(member).clear()
        member.plan, member.folder = plan, folder
    if members:
        gc.collect()  # networks and compiled functions hold each other
