"""The list of the runs behind a report with links, the commands that made them, and when the newest one ended."""

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from common.json_files import printable
from reporting.formats.html.grid import Cell, Grid, grid_of_values
from reporting.records.run import CONFIG, METRICS, Run, Skipped
from reporting.tables.numbers import number
from reporting.tables.wording import NAMES


def address(target: Path, place: Path) -> str:
    """Returns the address of a file or folder relative to a page in the folder `place`, with every byte escaped."""
    relative = os.path.relpath(os.path.realpath(target), os.path.realpath(place))
    # Without "./" a first part with a colon would be taken for a scheme, and that is escaped too.
    return quote(os.fsencode(relative)) + ("/" if target.is_dir() else "")


def run_grid(runs: Sequence[Run], table: pd.DataFrame, place: Path) -> Grid:
    """Returns a row per finished run, with links relative to the folder `place`."""
    counted = {path for paths in table.paths for path in paths}
    columns = {"method": None, "teacher": None, "network": None, "trial": "d", "seed": "d", "last top-1": ".2f"}
    columns |= {"best top-1": ".2f", "s/epoch": ",.1f", "records": None, "counted": None, "written (UTC)": None}
    columns |= {"data set": None, "protocol": None, "path": None}
    rows = [
        [
            "(a network alone)" if run.kind == "teacher" else NAMES["student"] if run.label == "none" else run.label,
            run.teacher,
            run.model,
            run.trial,
            run.seed,
            run.last.top1,
            run.best.top1,
            run.costs.seconds_per_epoch,
            Cell("", links=_records(run, place)),
            "yes" if run.path in counted else "no",
            moment(run),
            run.dataset,
            f"{run.protocol} [{run.protocol_id}]",
            run.path,
        ]
        for run in sorted(runs, key=lambda run: run.path)
    ]
    return replace(grid_of_values(f"Finished runs ({number(len(rows), 0)})", columns, rows), folded=True)


def _records(run: Run, place: Path) -> tuple[tuple[str, str], ...]:
    files = [path for path in (run.folder / CONFIG, run.folder / METRICS) if path.is_file()]
    return (("folder", address(run.folder, place)), *((path.stem, address(path, place)) for path in files))


def skipped_grid(skipped: Iterable[Skipped]) -> Grid:
    """Returns a row per folder that does not count, with the reason."""
    columns = {"folder": None, "state": None, "reason": None}
    rows = [[s.path, s.state, s.reason] for s in skipped]
    return replace(grid_of_values("Folders that no table counts", columns, rows), folded=True)


def moment(run: Run) -> str:
    """Returns the end of the run in UTC, to the minute; it sorts as text."""
    return datetime.fromtimestamp(run.finished_at, UTC).strftime("%Y-%m-%d %H:%M")


def newest(runs: Sequence[Run]) -> str:
    """Returns the end of the run that ended last; "" without runs."""
    return max(map(moment, runs), default="")


def commands(runs: Iterable[Run]) -> list[tuple[str, int]]:
    """Returns the commands on record, sorted, and how many of the runs each one made."""
    found = Counter(command for run in runs if (command := _command(run)))
    return sorted(found.items())


def _command(run: Run) -> str:
    environment = run.config.get("environment")
    words = environment.get("command") if isinstance(environment, dict) else None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        return ""
    return printable(shlex.join(["python", *words]))
