"""Which runs are compared (`--where`) and in which groups (`--by`), by fields of their config.json."""

import difflib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from common.errors import RequestError
from reporting.records.config_fields import check_key, is_value, path_of, value_text, values_at
from reporting.records.run import Run
from reporting.records.selection import Entry

# Labels of rows that others are compared with. They are in every group whose field they do not have, or whose field
# is one that methods are varied by.
REFERENCES = ("none", "kd")
OF_METHODS = (
    "method",
    "label",
    "weights",
    "options",
    "kd_T",
    "logit_standardization",
    "teacher_weighting",
    "retrospection",
)


@dataclass(frozen=True)
class Condition:
    """`key=value,value`: the field has one of the values, or all of them as one text."""

    key: str
    text: str

    @classmethod
    def parse(cls, argument: str) -> "Condition":
        """Raises RequestError unless `argument` is key=value[,value]."""
        key, equals, text = argument.partition("=")
        if not (key and equals and text):
            raise RequestError(f"--where {argument}: write it as key=value[,value], such as method=std,kd")
        return cls(key, text)

    def __str__(self) -> str:
        return f"{self.key}={self.text}"

    def holds(self, config: Mapping[str, Any]) -> bool:
        """Returns whether a run with this config meets the condition."""
        wanted = {self.text, *self.text.split(",")}
        return any(is_value(value, text) for value in values_at(config, self.key) for text in wanted)

    def of_teachers(self) -> bool:
        """Returns whether the field is the teachers', which a student alone cannot have."""
        return path_of(self.key)[0] == "teachers"


def select_runs(runs: Sequence[Run], conditions: Sequence[Condition]) -> list[Run]:
    """Returns the runs that meet all conditions.

    Conditions on teachers do not leave out the student alone, without which its methods have no gain.

    Raises:
        RequestError: no run has such a field, or none has such a value.
    """
    if not runs:
        return []
    for condition in conditions:
        check_key(runs, condition.key, "--where")
        if not any(condition.holds(run.config) for run in runs):
            present = {value_text(value) for run in runs for value in values_at(run.config, condition.key)}
            near = difflib.get_close_matches(condition.text, present, n=5, cutoff=0.5) or sorted(present)[:12]
            raise RequestError(f"--where {condition}: no run has this value; available: {', '.join(near)}")
    chosen = [run for run in runs if all(condition.holds(run.config) for condition in conditions)]
    chosen += _students_alone(runs, chosen, [condition for condition in conditions if not condition.of_teachers()])
    if not chosen:
        raise RequestError(f"no run meets all of {', '.join(map(str, conditions))}; leave out one of them")
    return chosen


def unmet_values(runs: Sequence[Run], conditions: Sequence[Condition]) -> list[str]:
    """Returns a note on each of several values in a condition that no run has: it may be misspelt."""
    notes = []
    for condition in conditions:
        values = [value for run in runs for value in values_at(run.config, condition.key)]
        if any(is_value(value, condition.text) for value in values):
            continue  # a list, typed as one text
        lacking = [text for text in condition.text.split(",") if not any(is_value(value, text) for value in values)]
        notes += [f"--where {condition}: no run has the value {text}" for text in lacking]
    return notes


def group_entries(entries: Sequence[Entry], key: str) -> list[Entry]:
    """Returns the entries with `group` set to the value of a field.

    A reference is in every group if it has no such field, or if the field is one of OF_METHODS: a sweep over the weight
    of a method is compared with the one kd that there is.

    Raises:
        RequestError: no run has such a field.
    """
    check_key([entry.run for entry in entries], key, "--by")
    of_methods, without = path_of(key)[0] in OF_METHODS, f"no {key}"
    names = [_group_name(entry.run, key) or without for entry in entries]
    shared = [
        entry.run.label in REFERENCES and (of_methods or name == without)
        for entry, name in zip(entries, names, strict=True)
    ]
    groups: dict[tuple, set[str]] = defaultdict(set)
    for entry, name, in_all in zip(entries, names, shared, strict=True):
        if not in_all:
            groups[_neighbourhood(entry.run)].add(name)
    found = []
    for entry, name, in_all in zip(entries, names, shared, strict=True):
        others = sorted(groups[_neighbourhood(entry.run)]) if in_all else []
        found += [replace(entry, group=group) for group in others or [name]]
    return found


def _students_alone(runs: Sequence[Run], chosen: Sequence[Run], conditions: Sequence[Condition]) -> list[Run]:
    """Returns runs without a teacher of the students in `chosen` that meet `conditions` and are not among `chosen`."""
    present = {id(run) for run in chosen}
    students = set(map(_neighbourhood, chosen))
    return [
        run
        for run in runs
        if run.label == REFERENCES[0]
        and id(run) not in present
        and _neighbourhood(run) in students
        and all(condition.holds(run.config) for condition in conditions)
    ]


def _neighbourhood(run: Run) -> tuple:
    """Returns what runs that are compared with each other share, except for the teacher."""
    return run.dataset, run.num_classes, run.image_size, run.data_group, run.protocol_id, run.model


def _group_name(run: Run, key: str) -> str | None:
    values = values_at(run.config, key)
    return f"{key} = {'+'.join(sorted(map(value_text, values)))}" if values else None
