"""Published figures of a data set without runs of our own: methods × teacher → student pairs."""

import numpy as np
import pandas as pd

from reporting.tables.columns import REFERENCE
from reporting.tables.numbers import number, signed
from reporting.tables.published_figures import published_figures
from reporting.tables.text_table import BEST, TextTable, rank_marks

RECIPE, EPOCHS = "repdistiller", 240  # the protocol that most papers of the field share
REFERENCES = ["teacher", "student alone"]
FEWEST = 60  # figures of a pair that make it one of the field's usual ones
LEGEND = (
    "Published test accuracy (top-1, %) by the method's authors, or by RepDistiller for the methods that it re-ran; "
    f"none was measured here. Listed is what was trained by the recipe {RECIPE} for {EPOCHS} epochs and is a method "
    "that has a name here: papers' rows under other names or recipes are left out. Epoch: which one the figure is of; "
    "the best one on the test set lies above the last; ? where it is not known. Mean gain is over the student alone "
    f"and mean vs {REFERENCE} over {REFERENCE}'s published figures, in points, over the (n) pairs that the method has, "
    f"with {REFERENCE} on the same pairs; the highest mean vs {REFERENCE} comes first. Means over other pairs "
    "are not quite comparable. Bold marks the best of a pair. Sources: results/published/README.md."
)


def literature(dataset: str = "cifar100") -> pd.DataFrame:
    """Returns a row per method, teacher and student: the authors' own `top1` (%) under one protocol.

    Of several own figures the first of the file counts; `selection` says which epoch it is of. `gain` is over the
    student alone and `gain_over_kd` over kd, on
    the same pair and by the same protocol, in points; NaN where the pair has no such figure.
    """
    figures = published_figures(dataset)
    usual = figures.groupby(["teacher", "student"]).transform("size") >= FEWEST
    own = (figures.origin == "own") & (figures.recipe == RECIPE) & (figures.epochs == EPOCHS) & (figures.setting == "")
    rows = figures[usual & own & (figures.distill != "")].copy()
    rows["selection"] = rows.selection.replace("", "?")
    rows = rows.drop_duplicates(["distill", "teacher", "student"])
    rows["gain"] = rows.top1 - _beside(rows, "student alone")
    rows["gain_over_kd"] = rows.top1 - _beside(rows, REFERENCE)
    rows["dataset"] = dataset
    columns = ["dataset", "distill", "method", "selection", "teacher", "student", "top1", "gain", "gain_over_kd"]
    return rows[[*columns, "source"]].reset_index(drop=True)


def _beside(rows: pd.DataFrame, distill: str) -> np.ndarray:
    """Returns the accuracy (%) of `distill` on the pair of each row; NaN where it has none."""
    pair = ["teacher", "student"]
    figures = rows[rows.distill == distill].set_index(pair).top1
    return figures.reindex(pd.MultiIndex.from_frame(rows[pair])).to_numpy()


def literature_table(rows: pd.DataFrame) -> TextTable:
    """Returns one table, the highest mean gain over kd first; teacher and student alone are above.

    Args:
        rows: as `literature` returns them.
    """
    figures = rows.pivot(index="distill", columns=["teacher", "student"], values="top1")
    pairs = list(dict.fromkeys(zip(rows.teacher, rows.student, strict=True)))
    by_method = rows.groupby("distill")
    epochs, gains = by_method.selection.first(), by_method[["gain", "gain_over_kd"]].agg(["mean", "count"])
    over_kd = gains["gain_over_kd", "mean"].drop(REFERENCES)
    names = [*REFERENCES, *over_kd.sort_values(ascending=False, kind="stable").index]
    figures, gains = figures.loc[names, pairs], gains.loc[names]
    cells = pd.DataFrame({"method": names, "epoch": epochs[names].to_numpy()})
    marks: dict[tuple[int, int], str] = {}
    for position, pair in enumerate(pairs, 2):
        cells[" → ".join(pair)] = figures[pair].map(number).to_numpy()
        best = rank_marks(figures[pair].where(~figures.index.isin(REFERENCES)))
        marks |= {(row, position): mark for row, mark in best.items() if mark == BEST}
    for title, column, empty in (
        ("mean gain (n)", "gain", REFERENCES),
        (f"mean vs {REFERENCE} (n)", "gain_over_kd", [*REFERENCES, REFERENCE]),
    ):
        of_method = gains[column].itertuples()
        cells[title] = ["" if name in empty else f"{signed(mean)} ({n})" for name, mean, n in of_method]
    heading = f"{rows.dataset.iloc[0]}: published, {RECIPE} protocol, {EPOCHS} epochs"
    return TextTable(heading, "all pairs", cells, marks)
