"""Runs of one name that were made by different code: rows of their own, and notes on it.

config.json has a digest of each file that defines the run's method and network (`sources`), and those of the code that
had trained it before it was continued by other code (`earlier_sources`).
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from reporting.records.runs import Run
from reporting.records.untrusted_json import printable

Code = tuple[Mapping[str, str], ...]  # files → digests, of all the code that trained a run, the last one last


def code_of(config: Mapping) -> Code:
    """What a run's config says of its code; () where it says nothing."""
    earlier = config.get("earlier_sources")
    found = [*(earlier if isinstance(earlier, list) else []), config.get("sources")]
    return tuple(sources for sources in found if sources and _is_sources(sources))


def apart_by_code(runs: Iterable[Run]) -> list[Run]:
    """The runs, with a label of their own for those that other code made than the last one of that label to finish.

    A run that several codes trained is that last one only where there is no other. Runs that say nothing are older than
    those that do, and stand with the first of these.
    """
    runs, of_one, of_several = list(runs), defaultdict(list), defaultdict(list)
    for run in sorted(runs, key=lambda run: run.finished_at):
        if code := code_of(run.config):
            (of_one if len(code) == 1 else of_several)[_repeated(run)].append(_version(code))
    found = []
    for run in runs:
        known = of_one[_repeated(run)] or of_several[_repeated(run)]
        version = _version(code_of(run.config)) or (known[0] if known else "")
        if known and version != known[-1]:
            run = replace(run, label=f"{run.label} (code {version})".strip(), former_code=version)
        found.append(run)
    return found


def _repeated(run: Run) -> tuple:
    """What runs have in common that are repetitions of each other."""
    return run.dataset, run.image_size, run.apart, run.protocol_id, run.kind, run.teacher, run.model, run.label


def notes_on_code(runs: Iterable[Run], named: Callable[[Run], str]) -> list[str]:
    """Which runs stand in rows of their own for the code that made them, and which networks changed between methods.

    Args:
        named: a run in words.
    """
    notes, networks = [], defaultdict(lambda: defaultdict(set))
    for run in runs:
        code = code_of(run.config)
        if len(code) > 1:
            notes.append(f"{run.path}: begun by one code and continued by another ({_differing(code)} changed)")
        elif run.former_code:
            notes.append(f"{named(run)}, trial {run.trial}: made by other code than the last run of that name")
        for file, digest in code[-1].items() if code else ():
            if file.startswith("models/"):
                networks[run.dataset, run.model][file].add(digest)
    for (dataset, model), files in networks.items():
        changed = [printable(file) for file, digests in files.items() if len(digests) > 1]
        if changed:
            notes.append(f"{model} on {dataset}: {', '.join(changed)} changed between the runs")
    return notes


def _is_sources(value: object) -> bool:
    """Whether it is files and their digests; a record may hold anything."""
    return isinstance(value, dict) and all(isinstance(digest, str) for digest in value.values())


def _version(code: Code) -> str:
    """A short name of the code; "" where nothing is known."""
    return hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()[:8] if code else ""


def _differing(code: Code) -> str:
    """The files that are not the same throughout."""
    names = sorted({name for sources in code for name in sources})
    return ", ".join(printable(name) for name in names if len({sources.get(name) for sources in code}) > 1)
