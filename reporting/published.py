"""What others have published beside what was measured here, with a mark wherever the two are not on equal terms."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pandas as pd

from reporting.layout import NAMES, Shown, number, signed
from reporting.runs import Run

FOLDER = Path(__file__).resolve().parents[1] / "results" / "published"
SELECTIONS = ("last", "best")
# The recipe of the published CIFAR-100 tables, but for epochs: those have a mark of their own.
REPDISTILLER = {
    "batch_size": 64,
    "optimizer": "sgd",
    "weight_decay": 5e-4,
    "momentum": 0.9,
    "schedule": "step",
    "lr_decay_rate": 0.1,
    "label_smoothing": 0,
}
LEARNING_RATES = {"MobileNetV2": 0.01, "ShuffleV1": 0.01, "ShuffleV2": 0.01}  # 0.05 for all others
DECAY_AT = (150 / 240, 180 / 240, 210 / 240)
PAIR = ["dataset", "teacher", "student"]
COLUMNS = [
    *(*PAIR, "protocol_id", "protocol", "group", "method", "ours", "ours_std", "n", "our_epochs", "our_selection"),
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
    path = FOLDER / f"{dataset}.csv"
    if not path.is_file():
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
    recipe, teacher (its accuracy) and setting, with a question mark where the source is silent.
    """
    recipes = {(run.dataset, run.protocol_id): run for run in runs}
    rows, notes = [], []
    for names, pair in table[table.role.isin([*NAMES, "method"])].groupby([*PAIR, "group", "protocol_id"], sort=False):
        dataset, teacher, student = names[:3]
        known = published_figures(dataset)
        known = known[(known.teacher == teacher) & (known.student == student)]
        if known.empty:
            notes.append(f"nothing published is known here for {_title(teacher, student)} on {dataset}")
            continue
        run = recipes[dataset, names[-1]]
        ours = {"our_epochs": run.epochs, "our_selection": run.selection}
        taught = pair[pair.role == "teacher"].top1_mean
        for row in pair.itertuples():
            same = known[known.distill == row.method]
            same = known[known.distill == _name(row)] if same.empty else same
            figures = {name: getattr(row, name) for name in (*PAIR, "protocol_id", "protocol", "group", "n")}
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
        differs += _unequal("recipe", recipe_of(run, row.student), entry["recipe"] or None)
    if row.role == "method":
        theirs = known[(known.distill == "teacher") & (known.source == entry["source"])]
        theirs = known[known.distill == "teacher"] if theirs.empty else theirs
        if theirs.empty or taught.empty:
            differs.append("teacher?")
        elif abs(theirs.top1.iloc[0] - taught.iloc[0]) > TEACHER_TOLERANCE:
            differs.append("teacher")
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
        "differs": ", ".join([*differs, *["setting"] * bool(entry["setting"])]),
    }


def _unequal(name: str, ours: object, theirs: object) -> list[str]:
    return [f"{name}?"] if theirs is None else [name] * (ours != theirs)


def _distance(found: Mapping) -> tuple[bool, bool, int]:
    """Figures of another setting come last, then quoted ones, then those that differ in more."""
    return bool(found["setting"]), found["origin"] != "own", len(found["differs"].split(", "))


def recipe_of(run: Run, student: str) -> str:
    """The recipe's name, or "changed NAME" where a value is not that of RepDistiller's tables under its name."""
    recipe = run.config.get("recipe", {})
    name = recipe.get("name", "")
    if name != "repdistiller":
        return name
    expected = REPDISTILLER | {"learning_rate": LEARNING_RATES.get(student, 0.05)}
    expected |= {"lr_decay_epochs": [round(share * run.epochs) for share in DECAY_AT]}
    return name if all(recipe.get(key) == value for key, value in expected.items()) else f"changed {name}"


def arrange_published(compared: pd.DataFrame) -> Iterator[Shown]:
    """A table per pair and protocol."""
    for names, pair in compared.groupby([*PAIR, "group", "protocol_id"], sort=False):
        dataset, teacher, student, group, protocol_id = names
        first = pair.iloc[0]
        heading = f"{dataset}{f', {group}' if group else ''}: published figures beside {first.protocol} [{protocol_id}]"
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
        title = f"{_title(teacher, student)}: ours {first.our_epochs} epochs, {first.our_selection}"
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
    "which epoch is printed. Differs: what is not equal on the two sides, with a question mark where the "
    "source is silent; only rows without a mark are a reproduction. Sources: results/published/README.md."
)


def _title(teacher: str, student: str) -> str:
    return f"{teacher} → {student}" if teacher else f"{student}, no teacher"


def _terms(row) -> str:
    if not isinstance(row.source, str) or row.method == NAMES["teacher"]:
        return ""
    return f"{'?' if pd.isna(row.published_epochs) else row.published_epochs}, {row.published_selection or '?'}"


def _figure(mean: float, std: float) -> str:
    return number(mean) + (f" ± {number(std)}" if number(std) else "")
