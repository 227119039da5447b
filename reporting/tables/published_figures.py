"""Published figures beside what was measured here, with a mark wherever the two are not on equal terms."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from reporting.records.run import Run
from reporting.tables.columns import PAIR
from reporting.tables.published_terms import unequal_run, unequal_settings, unequal_teacher
from reporting.tables.wording import NAMES, pair_title

FOLDER = Path(__file__).resolve().parents[2] / "results" / "published"
COLUMNS = [
    *(*PAIR, "protocol", "method", "ours", "ours_std", "n", "our_epochs", "our_selection"),
    *("published_method", "published", "published_std", "published_epochs", "published_selection"),
    *("published_recipe", "setting", "origin", "evidence", "source"),
    *("sources", "lowest", "highest", "difference", "differs"),
]


@cache
def published_figures(dataset: str) -> pd.DataFrame:
    """Returns all figures of results/published for a data set (see its README); empty where there is no file."""
    path = {file.stem: file for file in FOLDER.glob("*.csv")}.get(dataset)
    if path is None:
        return pd.DataFrame(columns=["teacher", "student", "distill"])
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    return table.assign(**{name: pd.to_numeric(table[name]) for name in ("top1", "std", "epochs")})


def method_key(label: str) -> str:
    """Returns the method in a label, without weights and options: `dkd beta=8 standardised` is dkd standardised."""
    return " ".join(word for word in label.split() if "=" not in word)


def compare_with_published(table: pd.DataFrame, runs: Iterable[Run]) -> tuple[pd.DataFrame, list[str]]:
    """Returns a row per row of `table` that belongs to a pair with published figures, and notes on other pairs.

    Of several sources those with a `setting` of their own count last, and the author's own figure counts before what
    others quote; then the one on terms most like ours, and among equals the first of the file. `sources`, `lowest` and
    `highest` are of those with the same setting. `differs` names what is not equal: epochs, selection (of the epoch),
    recipe, precision, held-out (images that only we kept from training), image size, teacher (its accuracy) and
    settings (of the method, or theirs as `setting` says), with a question mark where the source is silent. A
    recipe that is known to be none of ours is `other` in the file, so no run's is equal to it.

    Args:
        table: the tidy table of `runs`.
    """
    by_path = {run.path: run for run in runs}
    rows, notes = [], []
    for names, pair in table[table.role.isin([*NAMES, "method"])].groupby(PAIR, sort=False):
        dataset, student = map(str, (names[0], names[-1]))
        paths = [path for of_row in pair.paths for path in of_row]
        teacher = next(filter(None, (by_path[path].teacher_networks for path in paths)), "")
        known = published_figures(dataset)
        known = known[(known.teacher == teacher) & (known.student == student)]
        if known.empty:
            notes.append(f"nothing published is known here for {pair_title(teacher, student)} on {dataset}")
            continue
        taught = pair[pair.role == "teacher"].top1_mean.dropna().tolist()
        for row in pair.to_dict("records"):
            rows.append(_compared_row(row, by_path[(row["paths"] or paths)[0]], known, taught))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"sources": "Int64", "published_epochs": "Int64"}), notes


def _compared_row(
    row: Mapping[Hashable, Any], run: Run, known: pd.DataFrame, taught: Sequence[float]
) -> dict[str, Any]:
    """Returns a row of the tidy table with the published figure that fits best.

    Args:
        run: one of the row's, or for a teacher's row one that it taught.
        known: published figures of the pair.
        taught: accuracy (%) of our teacher; empty without one.
    """
    name = NAMES.get(row["role"], row["method"])
    ours = {column: row[column] for column in (*PAIR, "protocol", "n")}
    ours |= {"method": name, "ours": row["top1_mean"], "ours_std": row["top1_std"]}
    ours |= {"our_epochs": run.epochs, "our_selection": row["selection"]}
    same = known[known.distill == row["method"]]
    same = known[known.distill == (name if row["role"] in NAMES else method_key(name))] if same.empty else same
    if same.empty:
        return ours
    chosen = min((_beside(entry, known, row, run, taught) for entry in same.to_dict("records")), key=_distance)
    alike = same[same.setting == chosen["setting"]].top1
    return ours | chosen | {"sources": len(alike), "lowest": alike.min(), "highest": alike.max()}


def _beside(
    entry: Mapping[Hashable, Any], known: pd.DataFrame, row: Mapping[Hashable, Any], run: Run, taught: Sequence[float]
) -> dict[str, Any]:
    """Returns one published figure and what is not equal between it and ours; see `_compared_row`."""
    differs = []
    if row["role"] != "teacher":  # a teacher was trained before, by a protocol of its own
        differs += unequal_run(run, row["selection"], entry)
    if row["role"] != "student":
        differs += unequal_teacher(taught, entry, known)
    if row["role"] == "method" or entry["setting"]:
        differs += unequal_settings(run, entry)
    return {
        "published_method": entry["method"],
        "published": entry["top1"],
        "published_std": entry["std"],
        "published_epochs": entry["epochs"],
        "published_selection": entry["selection"],
        "published_recipe": entry["recipe"],
        **{column: entry[column] for column in ("setting", "origin", "evidence", "source")},
        "difference": row["top1_mean"] - entry["top1"],
        "differs": ", ".join(differs),
    }


def _distance(compared: Mapping[str, Any]) -> tuple[bool, bool, int]:
    """Returns a sort key: figures of another setting come last, then quoted ones, then those that differ in more."""
    marks = [mark for mark in compared["differs"].split(", ") if mark]
    return bool(compared["setting"]), compared["origin"] != "own", len(marks)
