"""Fields of config.json by dotted path: which there are, what they hold, and whether a value is the one typed."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from common.errors import RequestError
from common.json_files import printable
from reporting.records.run import Run

# Names of fields by the flags of train_student.py.
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
COMMON = {*ALIASES, "method", "label", "trial", "seed", "dataset", "precision"}  # suggested where no name is near


def path_of(key: str) -> list[str]:
    """Returns the names on the way to a field, from a dotted path or an alias."""
    return ALIASES.get(key, key).split(".")


def values_at(config: Mapping[str, Any], key: str) -> list[Any]:
    """Returns what a dotted path leads to: nothing, one value, or one for each entry of the lists on its way."""
    found: list[Any] = [config]
    for name in path_of(key):
        found = [item for value in found for item in (value if isinstance(value, list) else [value])]
        found = [value[name] for value in found if isinstance(value, dict) and name in value]
    return found


def check_key(runs: Sequence[Run], key: str, flag: str) -> None:
    """Raises RequestError, naming `flag` and similar fields, where no run has the field."""
    known = _known_keys(runs)
    if not runs or key in known or any(values_at(run.config, key) for run in runs):
        return
    by_end = {path.rsplit(".", 1)[-1]: path for path in sorted(known, reverse=True)}
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    near += [by_end[end] for end in difflib.get_close_matches(key.rsplit(".", 1)[-1], by_end, n=3, cutoff=0.6)]
    usual = ", ".join(sorted(known & COMMON))
    hint = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else f"available: {usual} (more in config.json)"
    raise RequestError(f"{flag} {key}: no run's config has such a field; {hint}")


def value_text(value: Any) -> str:
    """Returns a value as a user would type it: lists with commas; true, false and null as in the file."""
    items = value if isinstance(value, list) else [value]
    return printable(",".join(item if isinstance(item, str) else json.dumps(item) for item in items))


def is_value(value: Any, text: str) -> bool:
    """Returns whether `text` stands for `value`: numbers are compared as numbers; `none` and `null` are both null."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return text == value_text(value) or float(text) == value
        except ValueError:
            return False
    if value is None or isinstance(value, bool):
        return text.lower() in {json.dumps(value), str(value).lower()}
    return text == value_text(value)


def _known_keys(runs: Iterable[Run]) -> set[str]:
    """Returns every dotted path of any run's config, and the aliases of those."""
    paths = {path for run in runs for path in _paths(run.config)}
    return paths | {alias for alias, path in ALIASES.items() if path in paths}


def _paths(config: Mapping[str, Any]) -> Iterator[str]:
    left: list[tuple[str, Any]] = [("", config)]
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
