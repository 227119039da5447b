"""Which runs a table is of, and how they are grouped: conditions on fields of config.json by dotted path."""

import dataclasses
import difflib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import RequestError
from reporting.records.runs import Run
from reporting.records.untrusted_json import printable

# What the flags of train_student.py call a field.
ALIASES = {
    "model_s": "model",
    "student": "model",
    "model_t": "teachers.model",
    "teacher": "teachers.model",
    "distill": "method",
    "recipe": "recipe.name",
    "epochs": "recipe.epochs",
    "batch_size": "recipe.batch_size",
    "learning_rate": "recipe.learning_rate",
    "device": "environment.device",
}
# Labels of rows that others are compared with: they stand in every group whose field they do not have, or whose field
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
        """Raises RequestError unless it is key=value[,value]."""
        key, equals, text = argument.partition("=")
        if not (key and equals and text):
            raise RequestError(f"--where {argument}: write it as key=value[,value], such as method=std,kd")
        return cls(key, text)

    def holds(self, config: dict) -> bool:
        wanted = {self.text, *self.text.split(",")}
        return any(_same(value, text) for value in values_at(config, self.key) for text in wanted)

    def of_teachers(self) -> bool:
        """Whether it is one that a student alone cannot meet."""
        return path_of(self.key)[0] == "teachers"


def path_of(key: str) -> list[str]:
    """The names on the way to a field, from a dotted path or an alias of one."""
    return ALIASES.get(key, key).split(".")


def values_at(config: dict, key: str) -> list[Any]:
    """What a dotted path leads to: nothing, one value, or one for each entry of the lists on its way."""
    found = [config]
    for name in path_of(key):
        found = [item for value in found for item in (value if isinstance(value, list) else [value])]
        found = [value[name] for value in found if isinstance(value, dict) and name in value]
    return found


def known_keys(runs: Iterable[Run]) -> set[str]:
    """Every dotted path of any run's config, and the aliases of those."""
    paths = {path for run in runs for path in _paths(run.config)}
    return paths | {alias for alias, path in ALIASES.items() if path in paths}


def select_runs(runs: Sequence[Run], conditions: Sequence[Condition]) -> list[Run]:
    """The runs of which all conditions hold.

    Raises:
        RequestError: no run has such a field, or none has such a value.
    """
    if not runs:
        return []
    for condition in conditions:
        check_key(runs, condition.key, "--where")
        if not any(condition.holds(run.config) for run in runs):
            present = {_text(value) for run in runs for value in values_at(run.config, condition.key)}
            near = difflib.get_close_matches(condition.text, present, n=5, cutoff=0.5) or sorted(present)[:12]
            raise RequestError(
                f"--where {condition.key}={condition.text}: no run has this value; there is {', '.join(near)}"
            )
    chosen = [run for run in runs if all(condition.holds(run.config) for condition in conditions)]
    chosen += _students_alone(runs, chosen, [each for each in conditions if not each.of_teachers()])
    if not chosen:
        raise RequestError(
            f"no run meets all of {', '.join(f'{c.key}={c.text}' for c in conditions)}; leave out one of them"
        )
    return chosen


def unmet(runs: Sequence[Run], conditions: Sequence[Condition]) -> list[str]:
    """A note on each of several values in a condition that no run has: it may be misspelt."""
    notes = []
    for condition in conditions:
        values = [value for run in runs for value in values_at(run.config, condition.key)]
        if any(_same(value, condition.text) for value in values):
            continue  # a list, typed as one text
        lacking = [text for text in condition.text.split(",") if not any(_same(value, text) for value in values)]
        notes += [f"--where {condition.key}={condition.text}: no run has the value {text}" for text in lacking]
    return notes


def _students_alone(runs: Sequence[Run], chosen: Sequence[Run], conditions: Sequence[Condition]) -> list[Run]:
    """Of the students in `chosen`, the runs without a teacher that only conditions on teachers left out."""
    there = {id(run) for run in chosen}
    students = set(map(_place, chosen))
    return [
        run
        for run in runs
        if run.label == REFERENCES[0]
        and id(run) not in there
        and _place(run) in students
        and all(condition.holds(run.config) for condition in conditions)
    ]


def group_runs(runs: Sequence[Run], key: str | None) -> list[Run]:
    """The runs with `group` set to the value of a field.

    A reference stands once in every group where it has no such field, and where the field is one of OF_METHODS: a sweep
    over the weight of a method is compared with the one kd that there is.

    Raises:
        RequestError: no run has such a field.
    """
    if key is None:
        return list(runs)
    check_key(runs, key, "--by")
    of_methods = path_of(key)[0] in OF_METHODS
    names = [_name(run, key) or f"no {key}" for run in runs]
    beside = [
        run.label in REFERENCES and (of_methods or name == f"no {key}") for run, name in zip(runs, names, strict=True)
    ]
    groups = defaultdict(set)
    for run, name, each in zip(runs, names, beside, strict=True):
        if not each:
            groups[_place(run)].add(name)
    found = []
    for run, name, each in zip(runs, names, beside, strict=True):
        shared = sorted(groups[_place(run)]) if each else []
        found += [dataclasses.replace(run, group=group) for group in shared or [name]]
    return found


def _place(run: Run) -> tuple:
    """What runs that are compared with each other have in common, but for the teacher."""
    return run.dataset, run.num_classes, run.image_size, run.apart, run.protocol_id, run.model


def check_key(runs: Sequence[Run], key: str, flag: str) -> None:
    """Raises RequestError, naming fields like it, where no run has the field."""
    known = known_keys(runs)
    if not runs or key in known or any(values_at(run.config, key) for run in runs):
        return
    by_end = {path.rsplit(".", 1)[-1]: path for path in sorted(known, reverse=True)}
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    near += [by_end[end] for end in difflib.get_close_matches(key.rsplit(".", 1)[-1], by_end, n=3, cutoff=0.6)]
    usual = ", ".join(sorted(known & {*ALIASES, "method", "label", "trial", "seed", "dataset", "precision"}))
    hint = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else f"there is {usual} and more in config.json"
    raise RequestError(f"{flag} {key}: no run's config has such a field; {hint}")


def _name(run: Run, key: str) -> str | None:
    values = values_at(run.config, key)
    return f"{key} = {'+'.join(sorted(map(_text, values)))}" if values else None


def _paths(config: dict) -> Iterator[str]:
    left = [("", config)]
    while left:  # no recursion: a record may be nested as deep as it likes
        path, value = left.pop()
        if path:
            yield path
        if isinstance(value, dict):
            # A name with a dot in it, such as a file's, cannot be part of a dotted path.
            inside = [(name, inner) for name, inner in value.items() if "." not in name]
            left += [(f"{path}.{name}" if path else name, inner) for name, inner in inside]
        elif isinstance(value, list):
            left += [(path, inner) for inner in value if isinstance(inner, dict)]


def _text(value: Any) -> str:
    """A value as one would type it: lists with commas, true, false and null as in the file."""
    items = value if isinstance(value, list) else [value]
    return printable(",".join(item if isinstance(item, str) else json.dumps(item) for item in items))


def _same(value: Any, text: str) -> bool:
    """Numbers are compared as numbers, all else as text; `none` and `null` are the same to a value that is null."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return text == _text(value) or float(text) == value
        except ValueError:
            return False
    if value is None or isinstance(value, bool):
        return text.lower() in {json.dumps(value), str(value).lower()}
    return text == _text(value)
