"""Reads all runs below some folders, and names them so that runs which must not be mixed have different names."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from common.json_files import printable
from reporting.records.code_versions import former_code
from reporting.records.read_run import read_folder
from reporting.records.run import CONFIG, METRICS, RESULT, Run, Skipped
from reporting.records.settings import apart_by_settings
from reporting.records.teacher_order import apart_by_teachers
from reporting.records.untrusted_json import walk


def read_runs(roots: Iterable[str | Path]) -> tuple[list[Run], list[Skipped]]:
    """Returns all runs at any depth below `roots`, and what does not count; a folder that two roots reach counts once.

    Protocols, groups of data, and labels of different settings, teachers and code are those of all these runs together.
    """
    found: dict[str, Path] = {}  # by real path
    root_of: dict[Path, Path] = {}
    unreadable: list[OSError] = []
    for root in roots:
        for folder, files in walk(Path(root), unreadable):
            if {CONFIG, METRICS, RESULT} & set(files):
                found.setdefault(os.path.realpath(folder), folder)
                root_of.setdefault(folder, Path(root))
    runs, skipped = read_folders(found.values())
    runs = _with_short_paths(runs, root_of)
    skipped += [Skipped(printable(str(e.filename)), "unreadable", str(e.strerror)) for e in unreadable]
    return runs, skipped


def read_folders(folders: Iterable[Path]) -> tuple[list[Run], list[Skipped]]:
    """Returns the runs in these very folders, and what does not count; see `read_runs`."""
    found = [read_folder(folder) for folder in folders]
    skipped = [entry for entry in found if isinstance(entry, Skipped)]
    runs = _apart_by_data(_fullest_protocol([entry for entry in found if isinstance(entry, Run)]))
    return _apart_by_code(apart_by_settings(apart_by_teachers(runs))), skipped


def _with_short_paths(runs: list[Run], root_of: Mapping[Path, Path]) -> list[Run]:
    """Returns the runs with `short_path` set where no other run has the same path below its root.

    Args:
        root_of: the root below which each folder was found.
    """
    below = {run.folder: printable(str(run.folder.relative_to(root_of[run.folder]))) for run in runs}
    times = Counter(below.values())
    return [replace(run, short_path=below[run.folder]) if times[below[run.folder]] == 1 else run for run in runs]


def _fullest_protocol(runs: list[Run]) -> list[Run]:
    """Returns the runs of one protocol with the text that says most: older records leave out changes of the recipe."""
    texts: dict[str, set[str]] = {}
    for run in runs:
        texts.setdefault(run.protocol_id, set()).add(run.protocol)
    fullest = {key: max(found, key=lambda text: (text.count("="), -len(text), text)) for key, found in texts.items()}
    return [replace(run, protocol=fullest[run.protocol_id]) for run in runs]


def _apart_by_data(runs: list[Run]) -> list[Run]:
    """Returns the runs with `data_group` set where runs of one data set saw different bytes.

    A run whose record does not say is taken to have seen what most saw.
    """
    seen: dict[tuple[str, int], Counter[str]] = {}
    for run in runs:
        seen.setdefault((run.dataset, run.image_size), Counter()).update([run.data] if run.data else [])
    most = {key: max(found, key=lambda data: (found[data], data), default="") for key, found in seen.items()}
    return [
        replace(run, data_group=f"data {run.data or most[run.dataset, run.image_size]:.8}")
        if len(seen[run.dataset, run.image_size]) > 1
        else run
        for run in runs
    ]


def _apart_by_code(runs: list[Run]) -> list[Run]:
    """Returns the runs with another label where other code made them than the last run of that label."""
    return [
        replace(run, label=f"{run.label} (code {version})".strip(), former_code=version) if version else run
        for run, version in zip(runs, former_code(runs), strict=True)
    ]
