"""The table of all pairs of a protocol: a column per pair, then averages over the pairs that all methods have."""

import numpy as np
import pandas as pd

from reporting.tables.averages import across_pairs
from reporting.tables.columns import REFERENCE
from reporting.tables.numbers import number, signed
from reporting.tables.ranking import ranked
from reporting.tables.text_table import TextTable, rank_marks
from reporting.tables.wording import NAMES

UNDEFINED = "–"
RANK, ARI = "rank", f"ARI over {REFERENCE} %"


def summary_table(heading: str, rows: pd.DataFrame, top: int | None) -> TextTable:
    """Returns the methods with their figure on each pair, the best average rank first.

    Args:
        rows: rows of one protocol in the tidy table.
        top: how many methods to show; None for all.
    """
    rows = rows.assign(figure=ranked(rows))
    figures, averages = _by_rank(rows[rows.role == "method"])
    pairs = [pair for pair in dict.fromkeys(zip(rows.teacher, rows.student, strict=True)) if pair in figures.columns]
    others = (rows[rows.role == role] for role in NAMES)
    above = [across_pairs(part, part.figure).reindex(columns=pairs) for part in others]
    above = [part.set_axis([NAMES[role]] * len(part)) for role, part in zip(NAMES, above, strict=True)]
    whole = pd.concat([*above, figures[pairs]])
    skip = len(whole) - len(figures)
    of_students = np.arange(len(whole)) >= len(above[0])  # all rows below the teachers'
    cells = pd.DataFrame({"method": whole.index})
    marks: dict[tuple[int, int], str] = {}
    for position, pair in enumerate(pairs, 1):
        cells[" → ".join(filter(None, pair))] = whole[pair].map(number).to_numpy()
        marks |= {(row, position): mark for row, mark in rank_marks(whole[pair].where(of_students)).items()}
    averaged = {RANK: ([number(rank) or UNDEFINED for rank in averages.average_rank], -averages.average_rank)}
    if REFERENCE in averages.index:
        texts = ["" if name == REFERENCE else signed(ari) or UNDEFINED for name, ari in averages.ari.items()]
        averaged[ARI] = texts, averages.ari
    for name, (texts, figure) in averaged.items():
        marks |= {(skip + row, len(cells.columns)): mark for row, mark in rank_marks(figure).items()}
        cells[name] = [""] * skip + texts
    table = TextTable(heading, "all pairs", cells, marks, note=_about_averages(figures, averages))
    return table.shortened(_leading(cells.method, averages.average_rank, top), top)


def _by_rank(methods: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns mean figures, methods × pairs, and the methods' averages, both with the best average rank first."""
    figures = across_pairs(methods, methods.figure)
    averages = methods.groupby("method")[["average_rank", "ari", "common_pairs"]].first()
    keys = averages.assign(pairs=-figures.count(axis=1), mean=-figures.mean(axis=1))
    order = keys.sort_values(["average_rank", "pairs", "mean"]).index
    return figures.loc[order], averages.loc[order]


def _leading(names: pd.Series, ranks: pd.Series, top: int | None) -> list[int]:
    """Returns the positions of the `top` best methods, and of all rows that are none; kd is none of them.

    Args:
        names: of all rows.
        ranks: of the methods, the best one first. Methods without a rank are in the order of their rows.
    """
    if top is None:
        return list(range(len(names)))
    others = ranks.drop(REFERENCE, errors="ignore")
    place = others.rank(method="min").fillna(pd.Series(range(1, len(others) + 1), others.index, dtype=float))
    return [row for row, name in enumerate(names) if place.get(name, 0) <= top]


def _about_averages(figures: pd.DataFrame, averages: pd.DataFrame) -> str:
    """Returns which pairs the averages are over, and what they are."""
    if averages.average_rank.isna().all():
        return (
            f"{UNDEFINED}: an average takes 2 methods and 2 pairs that all methods here have; "
            "choose methods by --where method=A,B."
        )
    common = figures.columns[figures.notna().all()]
    if len(common) == figures.shape[1]:
        note = f"Rank is the average over {len(common)} of {len(common)} pairs, which all methods have."
    else:
        names = ", ".join(" → ".join(filter(None, pair)) for pair in common)
        note = f"Rank is the average over the {len(common)} of {figures.shape[1]} pairs that all methods have: {names}."
    if averages.ari.notna().any():
        note += (
            f" ARI is the average over the same M pairs of the improvement relative to {REFERENCE}'s own: "
            f"100/M · Σ (method − {REFERENCE}) / ({REFERENCE} − student alone)."
        )
    elif REFERENCE in averages.index:
        note += f" ARI needs a gain of {REFERENCE} over the student alone on each of these pairs."
    return note
