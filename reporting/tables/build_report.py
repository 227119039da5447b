"""From folders of runs to a report of them: read, selected, counted once, compared."""

import os
from collections.abc import Sequence
from pathlib import Path

from common.errors import RequestError
from reporting.records.query import Condition, group_entries, select_runs, unmet_values
from reporting.records.run import Run, Skipped
from reporting.records.runs import read_runs
from reporting.records.selection import entries_of, select_epochs
from reporting.tables.literature import literature
from reporting.tables.notes import notes_on
from reporting.tables.published_figures import FOLDER as FIGURES
from reporting.tables.published_figures import compare_with_published
from reporting.tables.repetitions import count_once
from reporting.tables.report import Report
from reporting.tables.table import methods_by_pair, tabulate

DEFAULT_ROOT = "save"
HINT = "train some with `python train_student.py --distill std`"


def build_report(
    roots: Sequence[str],
    where: Sequence[str] = (),
    by: str | None = None,
    select: str = "last",
    published: bool = False,
) -> Report:
    """Returns a report of the runs below `roots`, by default DEFAULT_ROOT; the others are the flags of the same names.

    With `published` and no runs in DEFAULT_ROOT, and where `roots` is the folder of published figures, they are alone.

    Raises:
        RequestError: there is no run at all, or a condition or group that no run has.
    """
    conditions = [Condition.parse(argument) for argument in where]
    chooses = bool(where or by) or select != "last"
    if [Path(root).resolve() for root in roots] == [FIGURES]:
        return literature_report("published figures; none was measured here", chooses)
    alone = f"no runs of your own in {DEFAULT_ROOT} yet: published figures alone" if published and not roots else ""
    if alone and not os.path.isdir(DEFAULT_ROOT):
        return literature_report(alone, chooses)
    roots = roots or [DEFAULT_ROOT]
    runs, skipped = find_runs(roots)
    if not runs and all(entry.state in ("foreign", "unreadable") for entry in skipped):
        if alone:
            return literature_report(alone, chooses)
        others = f" ({len(skipped)} folders are foreign or unreadable, e.g. {skipped[0]})" if skipped else ""
        raise RequestError(f"no runs below {', '.join(roots)}{others}; name a folder of runs or {HINT}")
    chosen, left_out = runs, []
    if conditions:
        chosen = select_runs(runs, conditions)
        left_out = [f"--where leaves out {len(runs) - len(chosen)} of {len(runs)} finished runs"]
        left_out += unmet_values(runs, conditions)
    entries, without_figure = select_epochs(chosen, select)
    counted, notes = count_once(group_entries(entries, by) if by else entries)
    table = tabulate(counted, select, methods_by_pair(entries_of(runs)))
    notes += notes_on(counted)
    shown, compared = [entry.run for entry in entries], None
    if published:
        compared, unknown = compare_with_published(table, shown)
        notes += unknown
    return Report(table, list(dict.fromkeys(notes + left_out)), skipped + without_figure, shown, compared)


def find_runs(roots: Sequence[str]) -> tuple[list[Run], list[Skipped]]:
    """Returns what `read_runs` finds. Raises RequestError where a root is no folder."""
    for root in roots:
        if not os.path.isdir(root):
            what = "is not a folder" if os.path.lexists(root) else "does not exist"
            raise RequestError(f"{root} {what}; name a folder of runs or {HINT}")
    return read_runs(roots)


def literature_report(note: str, chooses: bool) -> Report:
    """Returns published figures alone, with a note.

    Args:
        chooses: whether flags choose among runs.

    Raises:
        RequestError: they do, and there are no runs to choose among.
    """
    if chooses:
        raise RequestError(f"{note}, and --where, --by and --select choose among runs; leave them out")
    return Report(tabulate([]), [note], [], literature=literature())
