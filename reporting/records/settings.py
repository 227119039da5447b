"""Keeps apart runs of one label that were made by different settings: by any field of config.json that may matter.

A label is written when the run begins, by the defaults of its day, and rounds its numbers. What it leaves out is found
here: runs of one row of a table whose configs differ in a setting get it as part of their label. Every field counts as
a setting unless it is listed as something else, so a field of a later version counts too. A record without a field is
taken to be as most are.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from reporting.records.config_fields import value_text
from reporting.records.run import Run

# Fields that tell tables apart by themselves: they are places of a run, or hashed into the protocol's id.
PLACES = {"dataset", "num_classes", "image_size", "kind", "model", "label", "data_sha256"}
CODE = {"code", "earlier_code", "sources", "earlier_sources"}  # see `code_versions`
PROTOCOL = {"recipe", "recipe_changes", "precision", "validation", "protocol", "protocol_id"}
# Fields that repetitions of one another differ in, or that say nothing of how a run was trained.
NO_SETTINGS = {"format", "trial", "seed", "run_id", "environment", "test_images", "teacher_order_matters"}
NO_SETTINGS |= {"left_out", "classes", "test_class_images"}  # notes
# The files that are read: which ones differs from trial to trial. How they were made does not.
OF_FILES = {"path", "sha256", "top1", "top5", "loss", "balanced"}
OF_BACKBONE = {f"backbone.{name}" for name in ("path", "sha256", "code", "model")}
OF_UNLABELLED = {"unlabelled.path"}  # its images are identified by their SHA-256
NOT_SETTINGS = {*PLACES, *CODE, *PROTOCOL, *NO_SETTINGS, *OF_BACKBONE, *OF_UNLABELLED}
OF_SIZE = {"parameters", "head_parameters", "macs", "file_bytes"}  # older records have none of them
OF_TEACHERS = {*OF_FILES, *OF_SIZE, "model", "normalisation"}  # the last two are in the teacher's name
IN_LABELS = ("options.", "weights.")  # labels name these fields without
LONGEST_VALUE = 40  # characters of a value in a label

Setting = dict[str, Any]


def settings_of(config: Mapping[str, Any]) -> Setting:
    """Returns {dotted path: value} of the fields of config.json that may change what a run learns."""
    found: Setting = {}
    left = [(name, value) for name, value in config.items() if name not in ("teachers", "init")]
    found["init"] = _start(config.get("init"))
    teachers = config.get("teachers")
    for teacher in teachers if isinstance(teachers, list) else []:
        for name, value in teacher.items() if isinstance(teacher, dict) else ():
            if name not in OF_TEACHERS:
                found.setdefault(f"teachers.{name}", []).append(value)
    while left:  # no recursion: a record may be nested as deep as it likes
        path, value = left.pop()
        if path in NOT_SETTINGS:
            continue
        found[path] = value
        if isinstance(value, dict) and value:
            found[path] = "given"  # null is another setting than any dict
            left += [(f"{path}.{name}", inner) for name, inner in value.items()]
    return found


def _start(weights: Any) -> str | None:
    """Returns a word for the weights that a run started from; None for random ones, as of records without the field."""
    if not isinstance(weights, dict):
        return None
    constants = weights.get("normalisation") if weights.get("named_normalisation") else None
    text = json.dumps([weights.get("sha256"), weights.get("weights_key"), constants])
    return f"{weights.get('name')}:{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def apart_by_settings(runs: Iterable[Run]) -> list[Run]:
    """Returns the runs with the settings in their labels in which runs of one row differ.

    The setting that most runs of a row have keeps the plain label; of two that equally many have, the one that was
    there first.
    """
    runs = list(runs)
    rows: dict[tuple, list[int]] = defaultdict(list)
    for number, run in enumerate(runs):
        rows[row_of(run)].append(number)
    for numbers in rows.values():
        if len(numbers) > 1:
            numbers.sort(key=lambda number: (runs[number].finished_at, runs[number].path))
            for number, words in zip(numbers, _differences([runs[n].config for n in numbers]), strict=True):
                runs[number] = replace(runs[number], label=with_words(runs[number].label, words))
    return runs


def row_of(run: Run) -> tuple:
    """Returns what runs of one row of a table have in common."""
    place = run.dataset, run.num_classes, run.image_size, run.data_group, run.protocol_id
    return *place, run.kind, run.teacher, run.model, run.label


def with_words(label: str, words: Mapping[str, str]) -> str:
    """Returns a label with "key=value" for each of `words`, in place of what it says of the same keys."""
    kept = [word for word in label.split(" ") if word.partition("=")[0] not in words] if words else [label]
    return " ".join([*kept, *(f"{key}={value}" for key, value in words.items())]).strip()


def _differences(configs: list[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns for each config the settings, as words, by which it differs from the most common one; {} for that one."""
    settings = [settings_of(config) for config in configs]
    differ = [path for path in sorted({path for each in settings for path in each}) if _several(path, settings)]
    if not differ:
        return [{} for _ in settings]
    usual = {path: _most_common(each[path] for each in settings if path in each) for path in differ}
    keys = [tuple(_key(each.get(path, usual[path])) for path in differ) for each in settings]
    plain = _most_common(keys, key=lambda found: found)
    return [
        {} if key == plain else {_short(path): _text(each.get(path, usual[path])) for path in differ}
        for key, each in zip(keys, settings, strict=True)
    ]


def _several(path: str, settings: Iterable[Setting]) -> bool:
    return len({_key(each[path]) for each in settings if path in each}) > 1


def _most_common(values: Iterable[Any], key: Callable[[Any], Any] | None = None) -> Any:
    """Returns the most common value, the first of several."""
    key = key or _key
    values = list(values)
    counts = Counter(map(key, values))
    return max(values, key=lambda value: counts[key(value)])


def _key(value: Any) -> Any:
    """Returns a hashable form of a JSON value, in which 1 and 1.0 are equal and 1 and true are not."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number", value
    return type(value).__name__, repr(value)


def _short(path: str) -> str:
    return next((path.removeprefix(start) for start in IN_LABELS if path.startswith(start)), path)


def _text(value: Any) -> str:
    """Returns a value as one word; of a long one its beginning and a hash."""
    text = value_text(value).replace(" ", "_")
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[: LONGEST_VALUE // 2]}…{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"
