"""Tables of one teacher → student pair: accuracies, differences to kd with their tests, and costs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from common.messages import counted
from reporting.tables.columns import REFERENCE
from reporting.tables.numbers import ALPHA, interval, number, p_value, signed, spread
from reporting.tables.statistics import CONFIDENCE, TESTED, TOO_FEW, as_printed
from reporting.tables.text_table import BEST, TextTable, rank_marks, without_empty_columns
from reporting.tables.wording import NAMES, FigureWords, figure_words, pair_title

SIGNIFICANT = " †"
LONGEST_NAME = 50  # letters of a method's name in a sentence, which cannot be folded as a cell can
AGAINST = f"vs {REFERENCE}"


def leading_rows(pair: pd.DataFrame, top: int | None) -> list[int]:
    """Returns the positions of the `top` best methods, and of all rows that are none; kd stays and is none of them."""
    if top is None:
        return list(range(len(pair)))
    others = (pair.role == "method") & (pair.method != REFERENCE)
    figures = pd.Series(as_printed(pair.top1_mean.where(others)), index=pair.index)
    place = figures.rank(method="min", ascending=False)
    return np.flatnonzero(~others | (place <= min(top, len(pair)))).tolist()


def accuracy_table(heading: str, pair: pd.DataFrame, top: int | None) -> TextTable:
    """Returns the accuracies of a pair, with marks and tests of all its rows.

    Args:
        pair: rows of the tidy table.
        top: how many methods to show; None for all.
    """
    words = figure_words(pair)
    rows = [_accuracy_cells(row, words) for row in pair.itertuples()]
    marks = {}
    for row, mark in rank_marks(pair.top1_mean.where(pair.role.isin(["student", "method"]))).items():
        marks[row, 1] = mark
        if mark == BEST:
            marks[row, 0] = mark
    kept = leading_rows(pair, top)
    table = TextTable(
        heading,
        pair_title(pair.teacher.iloc[0], pair.student.iloc[0]),
        without_empty_columns(pd.DataFrame(rows)),
        marks,
        optional=("top-5", "gap %", AGAINST, words.beside),
        note=" ".join([*_initial_stages(pair.iloc[kept]), *_missing_references(pair), *_untested(pair)]),
    )
    return table.shortened(kept, top)


def difference_table(heading: str, pair: pd.DataFrame) -> TextTable:
    """Returns differences to kd with intervals and p-values; methods with too few trials are named in the note."""
    compared = pair[pair.kd_test.notna() & (pair.kd_test != TOO_FEW)]
    rows = [_difference_cells(row) for row in compared.itertuples()]
    untested = [_short(name) for name in pair.method[pair.kd_test == TOO_FEW]]
    note = f"{', '.join(untested)}: {TOO_FEW} for a test (it takes 2 trials of both)." if untested else ""
    title = f"{pair_title(pair.teacher.iloc[0], pair.student.iloc[0])}: difference to {REFERENCE}"
    return TextTable(heading, title, without_empty_columns(pd.DataFrame(rows)), note=note)


def cost_table(heading: str, pair: pd.DataFrame) -> TextTable | None:
    """Returns what the runs of a pair cost; None where nothing was measured."""
    measured = pair[(pair.role != "teacher") & pair[["seconds_per_epoch", "peak_memory_mib"]].notna().any(axis=1)]
    if measured.empty:
        return None
    rows = [_cost_cells(row) for row in measured.itertuples()]
    hardware = "; ".join(sorted(set(filter(None, measured.hardware))))
    title = f"{pair_title(pair.teacher.iloc[0], pair.student.iloc[0])}: cost"
    note = f"Measured on {hardware}." if hardware else ""
    return TextTable(heading, title, without_empty_columns(pd.DataFrame(rows)), note=note)


def _accuracy_cells(row: Any, words: FigureWords) -> dict[str, str]:
    return {
        "method": NAMES.get(row.role, row.method),
        words.column: spread(row.top1_mean, row.top1_std, row.n),
        words.beside: number(getattr(row, words.beside_column)) if row.role != "teacher" else "",
        "top-5": number(row.top5_mean),
        "gain": signed(row.gain) + (SIGNIFICANT if row.gain_p_holm < ALPHA else ""),
        AGAINST: signed(row.gain_over_kd) + (SIGNIFICANT if row.kd_p_holm < ALPHA else ""),
        "gap %": number(row.gap_recovered, 1),
    }


def _difference_cells(row: Any) -> dict[str, str]:
    return {
        "method": row.method,
        "difference": signed(row.gain_over_kd),
        f"{CONFIDENCE:.0%} interval": interval(row.kd_low, row.kd_high),
        "p (Welch)": p_value(row.kd_p) if row.kd_test == TESTED else row.kd_test,
        "p (Holm)": p_value(row.kd_p_holm),
        "bootstrap": interval(row.kd_bootstrap_low, row.kd_bootstrap_high),
    }


def _cost_cells(row: Any) -> dict[str, str]:
    return {
        "method": NAMES.get(row.role, row.method),
        "s/epoch": number(row.seconds_per_epoch, 1 if row.seconds_per_epoch >= 10 else 2),
        "initial s": number(row.initial_seconds, 0),
        "images/s": number(row.images_per_second, 0),
        "peak MiB": number(row.peak_memory_mib, 0),
        "extra parameters": "" if pd.isna(row.method_parameters) else f"{row.method_parameters:,}",
    }


def _initial_stages(pair: pd.DataFrame) -> Iterator[str]:
    """Notes on methods that trained for longer than the heading says."""
    staged = pair[pair.initial_epochs > 0]
    for _, methods in staged.groupby("initial_epochs"):
        epochs = int(methods.initial_epochs.iloc[0])
        subject = f"{', '.join(sorted(methods.method))} {'train' if len(methods) > 1 else 'trains'}"
        yield f"{subject} {counted(epochs, 'epoch')} more than the heading says, an initial stage."


def _missing_references(pair: pd.DataFrame) -> Iterator[str]:
    """Notes on what the methods of a pair cannot be compared with, and which runs are missing."""
    means = pair.set_index("role").top1_mean
    if "method" not in means:
        return
    if "student" not in means:
        yield "No gain and no gap: no run of the student alone is among these (--distill none)."
    elif "teacher" in means and not np.subtract(*as_printed(means[["teacher", "student"]])) > 0:
        yield "No gap: the teacher is not above the student alone."
    if REFERENCE not in set(pair.method):
        yield f"Nothing is tested against {REFERENCE}: no run of it is among these (--distill {REFERENCE})."


def _untested(pair: pd.DataFrame) -> Iterator[str]:
    tests = {"the student alone": pair.gain_test, REFERENCE: pair.kd_test}
    if untested := [name for name, verdicts in tests.items() if set(verdicts.dropna()) == {TOO_FEW}]:
        others = " and to ".join(untested)
        yield f"The difference to {others}: {TOO_FEW} for a test (it takes 2 trials of both)."


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
