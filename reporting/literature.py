"""What is published for a data set, without runs of our own: methods × teacher → student pairs."""

import pandas as pd

from reporting.layout import BEST, Shown, number, ranked, signed
from reporting.published import published_figures

LEGEND = (
    "Published test accuracy (top-1, %) by the method's authors, or by RepDistiller for the methods that it re-ran; "
    "none was measured here. Epoch: which one the figure is of; the best one on the test set lies above the last. Mean "
    "gain is over the student alone, in points, over all pairs or over as many as stand behind it. Bold marks the best "
    "of a pair. Sources: results/published/README.md."
)
RECIPE, EPOCHS = "repdistiller", 240  # the protocol that most papers of the field share
REFERENCES = ["teacher", "student alone"]
FEWEST = 60  # figures of a pair that make it one of the field's usual ones


def literature(dataset: str = "cifar100") -> pd.DataFrame:
    """A row per method, selection of the epoch, teacher and student: the authors' own `top1` (%) under one protocol.

    Of several own figures the first of the file counts. `gain` is over the student alone of RepDistiller's protocol.
    """
    figures = published_figures(dataset)
    usual = figures.groupby(["teacher", "student"]).transform("size") >= FEWEST
    own = (figures.origin == "own") & (figures.recipe == RECIPE) & (figures.epochs == EPOCHS) & (figures.setting == "")
    rows = figures[usual & own & (figures.distill != "")].copy()
    rows["selection"] = rows.selection.replace("", "?")
    rows = rows.drop_duplicates(["distill", "teacher", "student"])
    alone = rows[rows.distill == "student alone"].set_index(["teacher", "student"]).top1.rename("alone")
    rows = rows.join(alone, on=["teacher", "student"])
    rows["gain"] = rows.top1 - rows.alone
    rows["dataset"] = dataset
    columns = ["dataset", "distill", "method", "selection", "teacher", "student", "top1", "gain", "source"]
    return rows[columns].reset_index(drop=True)


def arrange_literature(rows: pd.DataFrame) -> Shown:
    """One table, the highest mean gain first; teacher and student alone above."""
    figures = rows.pivot(index="distill", columns=["teacher", "student"], values="top1")
    pairs = list(dict.fromkeys(zip(rows.teacher, rows.student, strict=True)))
    by_method = rows.groupby("distill").agg(gain=("gain", "mean"), n=("gain", "count"), epoch=("selection", "first"))
    names = [*REFERENCES, *by_method.drop(REFERENCES).sort_values("gain", ascending=False).index]
    by_method, figures = by_method.loc[names], figures.loc[names, pairs]
    cells, marks = pd.DataFrame({"method": names, "epoch": by_method.epoch.to_numpy()}), {}
    for position, pair in enumerate(pairs, 2):
        cells[" → ".join(pair)] = figures[pair].map(number).to_numpy()
        best = ranked(figures[pair].where(~figures.index.isin(REFERENCES)))
        marks |= {(row, position): mark for row, mark in best.items() if mark == BEST}
    counts = [f" ({n})" if n < len(pairs) else "" for n in by_method.n]
    gains = [signed(gain) + count for gain, count in zip(by_method.gain, counts, strict=True)]
    cells["mean gain"] = ["" if name in REFERENCES else gain for name, gain in zip(names, gains, strict=True)]
    heading = f"{rows.dataset.iloc[0]}: published, {RECIPE} protocol, {EPOCHS} epochs"
    return Shown(heading, "all pairs", cells, marks)
