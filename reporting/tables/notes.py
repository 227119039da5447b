"""Notes on runs that are in one table without being quite on equal terms."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import pandas as pd

from common.json_files import printable
from common.messages import counted
from reporting.records.code_versions import changed_files, code_of
from reporting.records.config_fields import value_text
from reporting.records.selection import Entry
from reporting.tables.repetitions import paths_of

# Fields of `environment` by which sums are rounded differently; see docs/reliability.md.
ROUNDING = ("torch", "processes", "tf32_convolutions")


def notes_on(entries: Sequence[Entry]) -> list[str]:
    """Returns what a reader should know of runs that were each counted once."""
    notes = [
        *_alike_protocols(entries),
        *_changed_code(entries),
        *_unequal_teachers(entries),
        *_unequal_data(entries),
        *_unequal_hardware(entries),
        *_unequal_rounding(entries),
        *_left_out_images(entries),
        *(
            f"{entry.run.path_in_notes}: counted by its result alone: {entry.run.doubt}"
            for entry in entries
            if entry.run.doubt
        ),
    ]
    return list(dict.fromkeys(notes))


def _alike_protocols(entries: Iterable[Entry]) -> list[str]:
    """Notes on protocols that read alike: the fields of the recipe in which they differ."""
    named: dict[tuple, dict[str, dict]] = defaultdict(dict)
    for run in (entry.run for entry in entries):
        recipe = {printable(name): value for name, value in run.config.get("recipe", {}).items() if name != "summary"}
        named[run.dataset, run.num_classes, run.image_size, run.protocol].setdefault(run.protocol_id, recipe)
    notes = []
    for (dataset, *_, protocol), recipes in named.items():
        if len(recipes) > 1:
            values = pd.json_normalize([recipes[key] for key in sorted(recipes)])
            values = values.map(lambda value: printable(str(value)))
            differ = [f"{name} {', '.join(values[name])}" for name in values if values[name].nunique() > 1]
            what = "; ".join(differ) or "what the protocol's name leaves out"
            notes.append(f"{dataset} ({protocol}): {', '.join(sorted(recipes))} differ in {what}")
    return sorted(notes)


def _changed_code(entries: Iterable[Entry]) -> list[str]:
    """Notes on runs of former code, and on networks whose file changed between the runs."""
    notes = []
    networks: dict[tuple, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for entry in entries:
        run, code = entry.run, code_of(entry.run.config)
        if len(code) > 1:
            changed = ", ".join(map(printable, changed_files(code)))
            notes.append(f"{run.path_in_notes}: begun by one code and continued by another ({changed} changed)")
        elif run.former_code:
            notes.append(f"{entry.name}, trial {run.trial}: made by other code than the last run of that name")
        for file, digest in code[-1].items() if code else ():
            if file.startswith("models/"):
                networks[run.dataset, run.model][file].add(digest)
    for (dataset, model), files in networks.items():
        several = [printable(file) for file, digests in files.items() if len(digests) > 1]
        if several:
            notes.append(f"{model} on {dataset}: {', '.join(several)} changed between the runs")
    return notes


def _unequal_teachers(entries: Iterable[Entry]) -> list[str]:
    """Notes on pairs whose methods learned from different checkpoints."""
    used: dict[tuple, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        if entry.run.teachers:
            used[*entry.place, entry.run.teacher, entry.run.model][entry.run.label].append(entry)
    notes = []
    for labels in used.values():
        if len({_teacher_shares(of_label) for of_label in labels.values()}) > 1:
            run = next(iter(labels.values()))[0].run
            pair = f"{run.teacher} → {run.model} on {run.dataset} ({run.protocol})"
            notes.append(f"{pair}: the methods did not all use the same teacher checkpoints")
    return sorted(notes)


def _teacher_shares(entries: Sequence[Entry]) -> frozenset[tuple[tuple[str, ...], float]]:
    """Returns which share of the runs each set of checkpoints taught."""
    counts = Counter(tuple(sorted(teacher.sha256 for teacher in entry.run.teachers)) for entry in entries)
    return frozenset((hashes, count / len(entries)) for hashes, count in counts.items())


def _unequal_data(entries: Iterable[Entry]) -> list[str]:
    """Notes on data sets of which runs saw different bytes."""
    seen: dict[tuple, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    unknown = set()
    for entry in entries:
        place = entry.run.dataset, entry.run.image_size
        if entry.run.data:
            seen[place][entry.run.data].append(entry)
        else:
            unknown.add(place)
    return sorted(
        f"{place[0]}: the data differs between runs, which are therefore in separate tables: "
        + "; ".join(f"{data:.8}… in {_first_paths(of_data)}" for data, of_data in sorted(found.items()))
        + ("; runs that do not record their data are with the majority" if place in unknown else "")
        for place, found in seen.items()
        if len(found) > 1
    )


def _first_paths(entries: Sequence[Entry]) -> str:
    rest = len(entries) - 3
    return paths_of(entries[:3]) + (f" (and {rest} more)" if rest > 0 else "")


def _unequal_hardware(entries: Iterable[Entry]) -> list[str]:
    """Notes on groups that were measured on several kinds of machine, whose costs do not compare."""
    used: dict[tuple, dict[str, Entry]] = defaultdict(dict)
    for entry in entries:
        if entry.run.costs.hardware:
            used[entry.place].setdefault(entry.run.costs.hardware, entry)
    notes = []
    for by_hardware in used.values():
        if len(by_hardware) > 1:
            run = next(iter(by_hardware.values())).run
            names = "; ".join(sorted(by_hardware))
            what = "costs were measured on different hardware, so they have tables of their own"
            notes.append(f"{run.dataset} ({run.protocol}): {what}: {names}")
    return sorted(notes)


def _unequal_rounding(entries: Iterable[Entry]) -> list[str]:
    """Notes on groups whose runs were computed in other ways, which round differently and otherwise do the same."""
    used: dict[tuple, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for entry in entries:
        recorded = entry.run.config.get("environment")
        environment = recorded if isinstance(recorded, dict) else {}
        for name in ROUNDING:
            if name in environment:
                place = f"{entry.run.dataset} ({entry.run.protocol})"
                used[entry.place, place][name].add(value_text(environment[name])[:40])
    return sorted(
        f"{place}: runs differ in {name} ({', '.join(sorted(values))}), which changes rounding"
        for (_, place), by_name in used.items()
        for name, values in by_name.items()
        if len(values) > 1
    )


def _left_out_images(entries: Iterable[Entry]) -> list[str]:
    """Notes on runs that did without images which could not be decoded."""
    notes = []
    for entry in entries:
        images = entry.run.config.get("left_out")
        if isinstance(images, (dict, list)) and images:
            notes.append(
                f"{entry.run.path_in_notes}: trained without {counted(len(images), 'image')} that could not be decoded"
            )
    return notes
