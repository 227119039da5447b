"""Which code made a run, and which runs of one label were made by other code than the last one.

config.json holds `code`, {file: digest} of the files that define the run's method and networks, and `earlier_code`, a
list of the same for code that had trained the run before other code continued it. Records without these keys, and those
of older versions, which have `sources` in their place, count as unknown.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from reporting.records.run import Run
from reporting.records.settings import row_of

Code = tuple[Mapping[str, str], ...]  # {file: digest} of each code that trained a run, the last one last


def code_of(config: Mapping[str, Any]) -> Code:
    """Returns the code that config.json names; () where it is unknown."""
    earlier = config.get("earlier_code")
    found = [*(earlier if isinstance(earlier, list) else []), config.get("code")]
    return tuple(files for files in found if files and _maps_files_to_digests(files))


def changed_files(code: Code) -> list[str]:
    """Returns the files that are not the same in all of `code`, sorted."""
    names = {name for files in code for name in files}
    return sorted(name for name in names if len({files.get(name) for files in code}) > 1)


def former_code(runs: Iterable[Run]) -> list[str]:
    """Returns for each run the version of its code where it is not that of the last run of its label, else "".

    A run that several code versions trained is the last one only where there is no other. Runs of unknown code are
    taken to have the code of the first run of their label whose code is known.
    """
    runs = list(runs)
    of_one: dict[tuple, list[str]] = defaultdict(list)
    of_several: dict[tuple, list[str]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.finished_at):
        if code := code_of(run.config):
            (of_one if len(code) == 1 else of_several)[row_of(run)].append(_version(code))
    found = []
    for run in runs:
        known = of_one[row_of(run)] or of_several[row_of(run)]
        version = _version(code_of(run.config)) or (known[0] if known else "")
        found.append(version if known and version != known[-1] else "")
    return found


def _maps_files_to_digests(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(digest, str) for digest in value.values())


def _version(code: Code) -> str:
    """Returns a short name of the code; "" where it is unknown."""
    return hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()[:8] if code else ""
