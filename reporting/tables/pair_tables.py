"""Tables of one teacher → student pair: accuracies, and differences to kd with their tests."""

from typing import Any

import numpy as np
import pandas as pd

from reporting.tables.columns import REFERENCE
from reporting.tables.numbers import ALPHA, interval, number, p_value, signed, spreads
from reporting.tables.pair_notes import pair_notes
from reporting.tables.ranking import ranked
from reporting.tables.statistics import CONFIDENCE, TESTED, TOO_FEW, as_printed
from reporting.tables.text_table import BEST, TextTable, rank_marks, without_empty_columns
from reporting.tables.wording import NAMES, FigureWords, figure_words, pair_title, short_name

SIGNIFICANT = " †"
AGAINST = f"vs {REFERENCE}"
HELD_OUT = "held-out"
BALANCED = "balanced"
TOP_CLASSES = 5  # of so many classes or fewer every prediction is among the first five


def leading_rows(pair: pd.DataFrame, top: int | None) -> list[int]:
    """Returns the positions of the `top` best methods, and of all rows that are none; kd stays and is none of them."""
    if top is None:
        return list(range(len(pair)))
    others = (pair.role == "method") & (pair.method != REFERENCE)
    figures = pd.Series(as_printed(ranked(pair).where(others)), index=pair.index)
    place = figures.rank(method="min", ascending=False)
    return np.flatnonzero(~others | (place <= min(top, len(pair)))).tolist()


def accuracy_table(heading: str, pair: pd.DataFrame, top: int | None) -> TextTable:
    """Returns the accuracies of a pair, with marks and tests of all its rows.

    Args:
        pair: rows of the tidy table.
        top: how many methods to show; None for all.
    """
    words = figure_words(pair)
    cells = pd.DataFrame([_accuracy_cells(row, words) for row in pair.itertuples()])
    cells.insert(1, words.column, figure_cells(pair, words))
    marks = {}
    for row, mark in rank_marks(ranked(pair).where(pair.role.isin(["student", "method"]))).items():
        marks[row, 1] = mark
        if mark == BEST:
            marks[row, 0] = mark
    kept = leading_rows(pair, top)
    table = TextTable(
        heading,
        pair_title(pair.teacher.iloc[0], pair.student.iloc[0]),
        without_empty_columns(cells),
        marks,
        optional=("top-5", "gap %", AGAINST, words.beside, BALANCED),
        note=" ".join(pair_notes(pair, pair.iloc[kept])),
    )
    return table.shortened(kept, top)


def difference_table(heading: str, pair: pd.DataFrame) -> TextTable:
    """Returns differences to kd with intervals and p-values; methods with too few trials are named in the note."""
    compared = pair[pair.kd_test.notna() & (pair.kd_test != TOO_FEW)]
    rows = [_difference_cells(row) for row in compared.itertuples()]
    untested = [short_name(name) for name in pair.method[pair.kd_test == TOO_FEW]]
    note = f"{', '.join(untested)}: {TOO_FEW} for a test (it takes 2 trials of both)." if untested else ""
    title = f"{pair_title(pair.teacher.iloc[0], pair.student.iloc[0])}: difference to {REFERENCE}"
    return TextTable(heading, title, without_empty_columns(pd.DataFrame(rows)), note=note)


def figure_cells(rows: pd.DataFrame, words: FigureWords) -> list[str]:
    """Returns the cells of a table's first figure, with means below one another."""
    mean, std = (rows[f"{words.figure}_{part}"] for part in ("mean", "std"))
    return spreads(zip(mean, std, rows.n, strict=True))


def balanced_cell(row: Any) -> str:
    """Returns the balanced accuracy of a row where the classes of the test set are uneven; "" where it says no more."""
    return number(row.balanced_mean) if row.uneven_classes else ""


def _accuracy_cells(row: Any, words: FigureWords) -> dict[str, str]:
    held_out = row.selection == "validation"
    return {
        "method": _name(row),
        HELD_OUT: "" if held_out else number(row.validation_mean),
        "test top-1": number(row.top1_mean) if held_out else "",
        words.beside: number(getattr(row, words.beside_column)) if row.role != "teacher" else "",
        "top-5": number(row.top5_mean) if row.num_classes > TOP_CLASSES else "",
        BALANCED: balanced_cell(row),
        "gain": signed(row.gain) + (SIGNIFICANT if row.gain_p_holm < ALPHA else ""),
        AGAINST: signed(row.gain_over_kd) + (SIGNIFICANT if row.kd_p_holm < ALPHA else ""),
        "gap %": number(row.gap_recovered, 1),
    }


def _name(row: Any) -> str:
    """Returns the name of a row; where the figure is not the last epoch's, a teacher's with the epoch of its file."""
    name = NAMES.get(row.role, row.method)
    if row.role != "teacher" or row.selection == "last":
        return name
    return f"{name} ({row.checkpoint or 'as it taught'})"


def _difference_cells(row: Any) -> dict[str, str]:
    return {
        "method": row.method,
        "difference": signed(row.gain_over_kd),
        f"{CONFIDENCE:.0%} interval": interval(row.kd_low, row.kd_high),
        "p (Welch)": p_value(row.kd_p) if row.kd_test == TESTED else row.kd_test,
        "p (Holm)": p_value(row.kd_p_holm),
        "bootstrap": interval(row.kd_bootstrap_low, row.kd_bootstrap_high),
    }
