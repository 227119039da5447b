"""What becomes of an exception that one run of a group raises: a line for people, and one in the run's folder."""

import inspect
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

import distiller_zoo
from common.errors import RequestError, RunError, UndeclaredFieldError
from common.messages import place_raised, words_of
from engine.device.world import World
from engine.training.student_run import StudentRun

METHODS_FOLDER = Path(distiller_zoo.__file__).parent


@dataclass
class Outcome:
    """What became of a command's runs: results of the finished and reasons of the failed ones, by the run's name."""

    results: dict[str, dict] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def reason_of(run: StudentRun, error: Exception, world: World) -> str | None:
    """Why a run has failed, in one or two lines; the traceback of a mistake in its code goes to error.txt.

    Returns:
        None if the exception is no failure of this run alone: other processes wait for this one amid the step.
    """
    name, mistake = run.plan.short_name, isinstance(error, UndeclaredFieldError)
    if isinstance(error, RunError) and not mistake:
        return str(error)
    if isinstance(error, RequestError):
        return f"{name}: {error}"
    if isinstance(error, RuntimeError) and "deterministic" in str(error):
        return f"{name}: {str(error).splitlines()[0].split(', but')[0]}; leave out this method or --deterministic"
    if world.size > 1 and not mistake:
        return None
    path = run.folder.traceback
    if world.is_main:
        with suppress(RunError):  # on a full disk the line alone has to do
            run.folder.write_traceback("".join(traceback.format_exception(error)))
    place = place_raised(error, METHODS_FOLDER, own={inspect.getfile(type(part)) for part in run.method.modules()})
    what = (str(error) if mistake else words_of(error)) + (f" at {place}" if place else "")
    if isinstance(error, torch.OutOfMemoryError):
        what = "out of memory; give fewer methods at a time (--group_size) or a smaller --batch_size"
    epoch, step = run.position
    return f"{name}, epoch {epoch}, step {step}: {what}; the traceback is in {path}"


def forget_failure(run: StudentRun) -> None:
    """Remove what an earlier attempt wrote about its end."""
    for path in (run.folder.failure, run.folder.traceback):
        run.folder.discard(path)
