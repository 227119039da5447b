"""Terms under which a published figure and ours were measured: which of them are not equal, or not known."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common.pair_settings import read_pair_settings
from reporting.records.run import Run

PAIR_SETTINGS = Path(__file__).resolve().parents[2] / "distiller_zoo" / "published.csv"
# Terms that the published tables of a recipe share. The code behind the `deit` figures has mixed precision as a switch,
# and they do not say how it was set.
PRECISIONS = {"repdistiller": "fp32"}
BATCH_SIZES = {"repdistiller": 64, "deit": 128}
IMAGE_SIZES = {"cifar100": 32}
# Methods whose sources choose values by the pair that are not on record here; those of others are in PAIR_SETTINGS.
TUNED = {"ttm", "wttm", "standardised"}
TEACHER_TOLERANCE = 0.05  # points; one checkpoint measures alike everywhere to within a few images


def recipe_of(run: Run) -> str:
    """Returns the recipe's name, or "changed NAME" where a value differs from what published tables of it have."""
    recipe = run.config.get("recipe", {})
    name = str(recipe.get("name", ""))
    other_batch = name in BATCH_SIZES and recipe.get("batch_size") != BATCH_SIZES[name]
    return f"changed {name}" if run.recipe_changes or other_batch else name


def unequal_run(run: Run, selection: str, entry: Mapping[Hashable, Any]) -> list[str]:
    """Returns which terms of training differ between a run and a published figure, with "?" where its are not known.

    Args:
        selection: which epoch our figure is of.
        entry: a row of `published_figures`.
    """
    marks = _unequal("epochs", run.epochs, None if pd.isna(entry["epochs"]) else int(entry["epochs"]))
    marks += _unequal("selection", selection, entry["selection"] or None)
    marks += _unequal("recipe", recipe_of(run), entry["recipe"] or None)
    marks += _unequal("precision", run.config.get("precision"), PRECISIONS.get(entry["recipe"]))
    marks += ["held-out"] * bool(run.config.get("validation"))
    marks += _unequal("image size", run.image_size, IMAGE_SIZES.get(run.dataset))
    return marks


def unequal_teacher(taught: Sequence[float], entry: Mapping[Hashable, Any], known: pd.DataFrame) -> list[str]:
    """Returns ["teacher"] where its accuracy differs, with "?" where one of the two is not known.

    Args:
        taught: accuracy (%) of our teacher; empty without one.
        known: published figures of the pair.
    """
    theirs = known[(known.distill == "teacher") & (known.source == entry["source"])]
    theirs = known[known.distill == "teacher"] if theirs.empty else theirs
    if theirs.empty or not taught:
        return ["teacher?"]
    return ["teacher"] * bool(abs(theirs.top1.iloc[0] - taught[0]) > TEACHER_TOLERANCE)


def unequal_settings(run: Run, entry: Mapping[Hashable, Any]) -> list[str]:
    """Returns ["settings"] where the method's weights and options are not those of the figure, with "?" if not known.

    The figure's are those of its own `setting`, those published for the pair, or the method's defaults.
    """
    if entry["setting"]:
        return ["settings"]
    words = entry["distill"].replace("+", " ").split()
    changed = {word.partition("=")[0] for word in run.label.split() if word not in entry["distill"].split()}
    tuned = TUNED.intersection(words)
    theirs = None if tuned else settings_of_pair(run.method, run.teacher_networks, run.model)
    if theirs is not None:
        parts = [run.config.get(name) for name in ("options", "weights")]
        ours = {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}
        equal = all(ours.get(name) == value for name, value in theirs.items())
        return [] if equal and changed <= set(theirs) else ["settings"]
    if tuned or any(pair.method in words for pair in read_pair_settings(PAIR_SETTINGS)):
        return ["settings?"]
    return ["settings"] * bool(changed)


def settings_of_pair(method: str, teacher: str, student: str) -> dict[str, Any] | None:
    """Returns weights and options by name that were published for a method on a pair; None where there are none."""
    for pair in read_pair_settings(PAIR_SETTINGS):
        if (pair.method, pair.teacher, pair.student) == (method, teacher, student):
            return pair.weights | pair.options
    return None


def _unequal(name: str, ours: object, theirs: object) -> list[str]:
    return [f"{name}?"] if theirs is None else [name] * (ours != theirs)
