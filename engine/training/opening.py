"""What a command does with runs that exist: leave a finished one alone, continue an unfinished one, or start anew.

Where the files of its method or networks have changed since, or the data, a finished run is reported and an unfinished
one refused, unless --overwrite changed or --continue_changed says what to do.
"""

from collections.abc import Sequence
from contextlib import ExitStack

from common.errors import RequestError
from engine.protocol.plan import Code
from engine.records.code_version import changed_files
from engine.records.progress import Progress
from engine.training.open_files import room_for_files
from engine.training.session import RunSettings
from engine.training.student_run import StudentRun


def open_folders(
    runs: Sequence[StudentRun], settings: RunSettings, locks: ExitStack, progress: Progress
) -> tuple[list[StudentRun], list[StudentRun]]:
    """Lock the folders of runs and read their checkpoints.

    Returns:
        The finished runs, and those that have something to do; a run that starts anew has `anew` set.

    Raises:
        RequestError: a folder cannot be written or is in use, no checkpoint of a run is good, the code of an unfinished
            run has changed, or there are more runs than the system allows open files.
    """
    with settings.compute.world.shared_errors():
        opened = [run for run in runs if not run.folder.is_finished() or _is_repeated(run, settings)]
        locks.enter_context(room_for_files(len(opened)))
        for run in opened:
            locks.enter_context(run.folder.opened())
    with settings.compute.world.shared_errors():
        # Checked again under the lock: its holder may have finished the run meanwhile.
        finished = [run for run in runs if run.folder.is_finished() and not _is_repeated(run, settings)]
        unfinished = [run for run in runs if run not in finished]
        for run in finished:
            run.folder.discard_leftovers()
            _report_finished(run, settings, progress)
        refused = [changes for run in unfinished if (changes := _open_unfinished(run, settings, progress))]
        if refused:
            more = f" (and {len(refused) - 1} more of these runs)" if refused[1:] else ""
            raise RequestError(
                f"{refused[0]}{more}; former and new code in one run make a result of neither\n"
                f"give --overwrite changed to start anew, or --continue_changed to go on with the new code"
            )
    return finished, unfinished


def check_data(
    finished: list[StudentRun],
    unfinished: list[StudentRun],
    digest: str,
    settings: RunSettings,
    locks: ExitStack,
) -> list[StudentRun]:
    """Compare the data with that of runs which exist already; to be called in a block of `World.shared_errors`.

    Returns:
        The finished runs that were made on other data: with --overwrite changed they start anew, and are locked.

    Raises:
        RequestError: an unfinished run was begun on other data.
    """
    others = [run for run in finished if run.folder.data_digest() not in (None, digest)]
    for run in unfinished:
        if settings.overwrite == "changed" and run.data_has_changed(digest):
            run.start_anew()
        run.check_data(digest)
    if settings.overwrite == "changed":
        for run in others:
            locks.enter_context(run.folder.opened())
            run.start_anew()
    return others


def report_changed_data(finished: Sequence[StudentRun], progress: Progress) -> None:
    """Report the finished runs whose data has changed since."""
    for run in finished:
        if run.anew:
            progress.line(f"{run.plan.short_name}: it was finished on other data and starts anew")
        else:
            progress.warning(
                f"{run.plan.short_name}: it was finished on other data than lies there now; "
                f"bring the former files back, or run it anew with --overwrite changed"
            )


def code_changes(run: StudentRun, before: Code | None) -> str:
    """Name the files that differ from the code that made a run; "" if none does or that code is unknown."""
    files = changed_files(before, run.code) if before else []
    return f"{run.plan.short_name}: {', '.join(files)} changed since it was made" if files else ""


def _is_repeated(run: StudentRun, settings: RunSettings) -> bool:
    """True if a run starts anew even if it is finished."""
    changed = settings.overwrite == "changed" and bool(code_changes(run, run.folder.code()))
    return changed or settings.overwrite == "all"


def _report_finished(run: StudentRun, settings: RunSettings, progress: Progress) -> None:
    before, name = run.folder.code(), run.plan.console_name
    if settings.overwrite is None:
        how = "--overwrite starts anew"
    else:
        how = "its code has not changed" if before else "its code is unknown; --overwrite alone starts anew"
    progress.line(f"already finished: {name} in {run.folder.path} ({how})")
    if changes := code_changes(run, before):
        progress.warning(f"{changes}; its result is of the former code, --overwrite changed repeats it")


def _open_unfinished(run: StudentRun, settings: RunSettings, progress: Progress) -> str:
    """Read the state of a run that is not finished; returns how its code has changed if it must not go on."""
    if settings.overwrite == "all":
        run.start_anew()
        return ""
    if run.folder.is_finished():
        progress.line(f"{code_changes(run, run.folder.code())}; it is repeated")
        run.start_anew()
        return ""
    run.folder.continue_repetition()
    for problem in run.read_saved():
        progress.warning(f"{problem}; going on from the checkpoint before it")
    changes = code_changes(run, run.saved_code)
    if changes and settings.overwrite == "changed":
        progress.line(f"{changes}; it starts anew")
        run.start_anew()
        return ""
    return "" if settings.continue_changed else changes
