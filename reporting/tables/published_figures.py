"""What others have published beside what was measured here, with a mark wherever the two are not on equal terms."""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pandas as pd

from common.errors import RequestError
from common.messages import counted
from reporting.records.runs import Run
from reporting.tables.layout import NAMES, Shown, number, signed
from reporting.tables.table import PAIR

FOLDER = Path(__file__).resolve().parents[2] / "results" / "published"
# By recipe; the code behind the `deit` figures has mixed precision as a switch, and they do not say how it stood.
PRECISIONS = {"repdistiller": "fp32"}
# Their sources choose values by the pair that are not held here; `distiller_zoo.published_settings` has those of
# others.
TUNED = {"ttm", "wttm", "standardised"}
COLUMNS = [
    *(*PAIR, "protocol", "method", "ours", "ours_std", "n", "our_epochs", "our_selection"),
    *("published_method", "published", "published_std", "published_epochs", "published_selection"),
    *(
        "published_recipe",
        "setting",
        "origin",
        "evidence",
        "source",
        "sources",
        "lowest",
        "highest",
        "difference",
        "differs",
    ),
]
TEACHER_TOLERANCE = 0.05  # points; one checkpoint measures alike everywhere to within a few images


@cache
def published_figures(dataset: str) -> pd.DataFrame:
    """All figures that results/published holds for a data set (see its README); empty where there is no file."""
    path = {file.stem: file for file in FOLDER.glob("*.csv")}.get(dataset)
    if path is None:
        return pd.DataFrame(columns=["teacher", "student", "distill"])
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    return table.assign(**{name: pd.to_numeric(table[name]) for name in ("top1", "std", "epochs")})


def method_key(label: str) -> str:
    """The method that a label names, without weights and options: `dkd beta=8 standardised` is dkd standardised."""
    return " ".join(word for word in label.split() if "=" not in word)


def compare_with_published(table: pd.DataFrame, runs: Iterable[Run]) -> tuple[pd.DataFrame, list[str]]:
    """A row per row of `table` that belongs to a pair with published figures; and notes on pairs that have none.

    Of several sources those with a `setting` of their own count last, and the author's own figure counts before what
    others quote; then the one on terms most like ours, and among equals the first of the file. `sources`, `lowest` and
    `highest` tell of those with the same setting. `differs` names what is not equal: epochs, selection (of the epoch),
    recipe, precision, held-out (images that only we kept from training), image size, teacher (its accuracy) and
    settings (of the method, or theirs as `setting` says), with a question mark where the source is silent. A
    recipe that is known to be none of ours is `other` in the file, so no run's is equal to it.
    """
    by_path = {run.path: run for run in runs}
    rows, notes = [], []
    for names, pair in table[table.role.isin([*NAMES, "method"])].groupby(PAIR, sort=False):
        dataset, (teacher, student) = names[0], names[-2:]
        known = published_figures(dataset)
        known = known[(known.teacher == teacher) & (known.student == student)]
        if known.empty:
            notes.append(f"nothing published is known here for {_title(teacher, student)} on {dataset}")
            continue
        paths = [path for of_row in pair.paths for path in of_row]
        taught = pair[pair.role == "teacher"].top1_mean
        for row in pair.itertuples():
            same = known[known.distill == row.method]
            same = known[known.distill == _name(row)] if same.empty else same
            run = by_path[(row.paths or paths)[0]]
            ours = {"our_epochs": run.epochs, "our_selection": run.selection}
            figures = {name: getattr(row, name) for name in (*PAIR, "protocol", "n")}
            figures |= {"method": NAMES.get(row.role, row.method), "ours": row.top1_mean, "ours_std": row.top1_std}
            candidates = [_beside(each, known, row, run, taught) for each in same.to_dict("records")]
            chosen = min(candidates, key=_distance) if candidates else {}
            alike = same[same.setting == chosen["setting"]].top1 if chosen else same
            spread = {"sources": len(alike), "lowest": alike.min(), "highest": alike.max()} if chosen else {}
            rows.append({**figures, **ours, **chosen, **spread})
    return pd.DataFrame(rows, columns=COLUMNS).astype({"sources": "Int64", "published_epochs": "Int64"}), notes


def _name(row) -> str:
    return NAMES.get(row.role) or method_key(row.method)


def _beside(entry: Mapping, known: pd.DataFrame, row, run: Run, taught: pd.Series) -> dict:
    """One published figure and what is not equal between it and ours."""
    differs = []
    if row.role != "teacher":  # a teacher was trained before, by a protocol of its own
        differs += _unequal("epochs", run.epochs, None if pd.isna(entry["epochs"]) else int(entry["epochs"]))
        differs += _unequal("selection", run.selection, entry["selection"] or None)
        differs += _unequal("recipe", recipe_of(run), entry["recipe"] or None)
        differs += _unequal("precision", run.config.get("precision"), PRECISIONS.get(entry["recipe"]))
        differs += ["held-out"] * bool(run.config.get("validation"))
        differs += _unequal("image size", run.image_size, _image_size(run.dataset))
    if row.role != "student":
        theirs = known[(known.distill == "teacher") & (known.source == entry["source"])]
        theirs = known[known.distill == "teacher"] if theirs.empty else theirs
        if theirs.empty or taught.empty:
            differs.append("teacher?")
        elif abs(theirs.top1.iloc[0] - taught.iloc[0]) > TEACHER_TOLERANCE:
            differs.append("teacher")
    if entry["setting"]:
        differs.append("settings")
    elif row.role == "method":
        differs += _unequal_settings(run, entry["distill"])
    return {
        "published_method": entry["method"],
        "published": entry["top1"],
        "published_std": entry["std"],
        "published_epochs": entry["epochs"],
        "published_selection": entry["selection"],
        "published_recipe": entry["recipe"],
        "setting": entry["setting"],
        "origin": entry["origin"],
        "evidence": entry["evidence"],
        "source": entry["source"],
        "difference": row.top1_mean - entry["top1"],
        "differs": ", ".join(differs),
    }


def _unequal(name: str, ours: object, theirs: object) -> list[str]:
    return [f"{name}?"] if theirs is None else [name] * (ours != theirs)


def _distance(found: Mapping) -> tuple[bool, bool, int]:
    """Figures of another setting come last, then quoted ones, then those that differ in more."""
    marks = [mark for mark in found["differs"].split(", ") if mark]
    return bool(found["setting"]), found["origin"] != "own", len(marks)


def recipe_of(run: Run) -> str:
    """The recipe's name, or "changed NAME" where a value is not what that name alone gives the student."""
    from engine.protocol.recipes import resolve_recipe  # loads PyTorch, which no other table needs
    from models import MODELS

    recipe = dict(run.config.get("recipe", {}))
    name = str(recipe.get("name", ""))
    try:
        expected = resolve_recipe(name, MODELS[run.model], {"epochs": run.epochs}).as_dict()
    except RequestError:
        return f"changed {name}"
    same = json.loads(json.dumps(expected)) | {"summary": ""} == recipe | {"summary": ""}
    return name if same else f"changed {name}"


def _image_size(dataset: str) -> int | None:
    from dataset import DATASETS

    return DATASETS[dataset].image_size if dataset in DATASETS else None


def _unequal_settings(run: Run, distill: str) -> list[str]:
    """Whether the method's weights and options are those of the figure: of the pair where known, or the defaults."""
    from distiller_zoo.published_settings import published_for, published_pairs

    words = distill.replace("+", " ").split()
    changed = {word.partition("=")[0] for word in run.label.split() if word not in distill.split()}
    tuned = TUNED.intersection(words)
    pair = None if tuned else published_for(run.method, (teacher.model for teacher in run.teachers), run.model)
    if pair is not None:
        theirs = pair.options | pair.weights
        parts = [run.config.get(name) for name in ("options", "weights")]
        ours = {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}
        equal = all(ours.get(name) == value for name, value in theirs.items())
        return [] if equal and changed <= set(theirs) else ["settings"]
    if tuned or any(each.method in words for each in published_pairs()):
        return ["settings?"]
    return ["settings"] * bool(changed)


def arrange_published(compared: pd.DataFrame) -> Iterator[Shown]:
    """A table per pair and protocol."""
    for names, pair in compared.groupby(PAIR, sort=False):
        dataset, classes, size, group, protocol_id, teacher, student = names
        first = pair.iloc[0]
        heading = f"{dataset}, {classes} classes, {size}×{size}{f', {group}' if group else ''}: published figures "
        heading += f"beside {first.protocol} [{protocol_id}]"
        sources = [source for source in dict.fromkeys(pair.source) if isinstance(source, str)]
        cells = [
            {
                "method": row.method,
                "published": _figure(row.published, row.published_std),
                "ours (n)": f"{_figure(row.ours, row.ours_std)} ({row.n})",
                "difference": signed(row.difference),
                "terms": _terms(row),
                "differs": row.differs if isinstance(row.differs, str) else "",
                "source": str(sources.index(row.source) + 1) if row.source in sources else "",
            }
            for row in pair.itertuples()
        ]
        title = f"{_title(teacher, student)}: ours {counted(first.our_epochs, 'epoch')}, {first.our_selection}"
        note = "Sources: " + "; ".join(f"{i} {source}" for i, source in enumerate(sources, 1)) + "."
        disagree = [
            f"{row.method} {number(row.lowest)} to {number(row.highest)} ({row.sources})"
            for row in pair.itertuples()
            if isinstance(row.source, str) and row.lowest < row.highest
        ]
        if disagree:
            note += f" Sources disagree on {', '.join(disagree)}."
        known = pair[pair.source.isin(sources) & (pair.setting != "")]
        if not known.empty:
            note += f" Settings: {'; '.join(f'{row.method}: {row.setting}' for row in known.itertuples())}."
        yield Shown(heading, title, pd.DataFrame(cells), optional=("source",), note=note)


LEGEND = (
    "Test accuracy (top-1, %), ours as mean ± sample standard deviation over (n) trials. Terms: theirs, epochs and "
    "which epoch is printed. Differs: what is not equal on the two sides, with a question mark where the source is "
    "silent: recipe says that theirs is known to be another than ours, recipe? that it is not known; settings are the "
    "method's weights and options, which some sources choose by the pair. Only a row with both figures and no mark can "
    "count as a reproduction. Sources: results/published/README.md."
)


def _title(teacher: str, student: str) -> str:
    return f"{teacher} → {student}" if teacher else f"{student}, no teacher"


def _terms(row) -> str:
    if not isinstance(row.source, str) or row.method == NAMES["teacher"]:
        return ""
    return f"{'?' if pd.isna(row.published_epochs) else row.published_epochs}, {row.published_selection or '?'}"


def _figure(mean: float, std: float) -> str:
    return number(mean) + (f" ± {number(std)}" if number(std) else "")
