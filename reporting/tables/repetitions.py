"""Which runs count as repetitions: each trial once, though folders are copied and trials are run again."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from reporting.records.selection import Entry


def count_once(entries: Iterable[Entry]) -> tuple[list[Entry], list[str]]:
    """Returns each trial once, and notes on what was not counted.

    Of copies of one run, and of several runs of one trial, the last one to finish counts. The order of `entries`
    changes nothing.
    """
    copies: dict[tuple, list[Entry]] = defaultdict(list)
    trials: dict[tuple, list[Entry]] = defaultdict(list)
    notes = []
    for entry in sorted(entries, key=lambda entry: (entry.run.finished_at, entry.run.path)):
        copies[*entry.row, entry.run.run_id, entry.run.trial, entry.run.seed].append(entry)
    for same in copies.values():
        if len(same) > 1:
            results = {(entry.run.last.top1, entry.run.best.top1) for entry in same}
            differ = " though their results differ" if len(results) > 1 else ""
            notes.append(f"copies of one run{differ}: counted {same[-1].run.path_in_notes}, not {paths_of(same[:-1])}")
        last = same[-1]
        trials[*last.row, last.run.trial, last.run.seed, last.run.backbone].append(last)
    for same in trials.values():
        if len(same) > 1:
            run = same[-1].run
            name = f"{same[-1].name}, trial {run.trial}, seed {run.seed}"
            notes.append(
                f"duplicate trial: {name}{_difference_of_teachers(same)}: "
                f"counted {run.path_in_notes}, which finished last, not {paths_of(same[:-1])}"
            )
    counted = [same[-1] for same in trials.values()]
    counted.sort(key=lambda entry: (entry.run.trial, entry.run.seed, entry.run.path))
    return counted, sorted(notes) + _shared_seeds(counted)


def _difference_of_teachers(same: Iterable[Entry]) -> str:
    """Returns how the teachers of runs of one trial differ, as words behind their name; "" if they do not."""
    orders = {tuple(str(teacher.sha256) for teacher in entry.run.teachers) for entry in same}
    if len({tuple(sorted(order)) for order in orders}) > 1:
        return ", of other teachers"
    return ", of the same teachers in another order" if len(orders) > 1 else ""


def paths_of(entries: Iterable[Entry]) -> str:
    """Returns the folders of the runs, as notes name them, joined by commas."""
    return ", ".join(entry.run.path_in_notes for entry in entries)


def _shared_seeds(entries: Sequence[Entry]) -> list[str]:
    """Returns notes on trials that share a seed: they repeat one another, so that their spread says nothing."""
    by_seed: dict[tuple, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_seed[*entry.row, entry.run.seed, entry.run.backbone].append(entry)
    return sorted(
        f"{same[0].name}: trials {', '.join(str(entry.run.trial) for entry in same)} share seed {same[0].run.seed}, "
        "so they are no independent repetitions"
        for same in by_seed.values()
        if len(same) > 1
    )
