"""Gains of the methods of a pair over the student alone and over kd, and how sure they are."""

import numpy as np
import pandas as pd

from reporting.tables.columns import PAIR, REFERENCE, TESTS
from reporting.tables.statistics import SHARED_SEEDS, Difference, compare_means, gap_recovered, holm


def add_comparisons(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with gains over the student alone and over kd, their tests, and the share of the gap."""
    is_alone = table.role == "student"
    is_kd = (table.role == "method") & (table.method == REFERENCE)
    of_none = (table.role == "probe") & (table.method == "none")
    table["gain"] = _gain(table, "method", is_alone).fillna(_gain(table, "probe", of_none).mask(of_none))
    table["gap_recovered"] = _gap(table)
    table["gain_over_kd"] = _gain(table, "method", is_kd).mask(is_kd)
    for name, reference in (("gain", is_alone), ("kd", is_kd)):
        table = table.join(_tests(table, reference).add_prefix(f"{name}_"))
    return table


def compare_rows(one: pd.Series, other: pd.Series) -> Difference:
    """Returns `statistics.compare_means` of two rows; trials that repeat a seed are no sample to test by."""
    if any(len(set(row["seeds"])) < len(row["seeds"]) for row in (one, other)):
        return Difference(SHARED_SEEDS)
    return compare_means(one["values"], other["values"])


def _gain(table: pd.DataFrame, role: str, baseline: pd.Series) -> pd.Series:
    """Returns the points that rows of a role are above the baseline row of their pair; NaN for others and without one.

    Args:
        baseline: True in the baseline row of each pair.
    """
    alone = table[baseline].set_index(PAIR).top1_mean.rename("alone")
    return (table.top1_mean - table.join(alone, on=PAIR).alone).where(table.role == role)


def _gap(table: pd.DataFrame) -> pd.Series:
    """Returns the share of the gap between student and teacher that each method recovers; NaN without one of them."""
    beside = table
    for role in ("student", "teacher"):
        mean = table[table.role == role].set_index(PAIR).top1_mean.rename(f"{role}_mean")
        beside = beside.join(mean, on=PAIR)
    means = beside[["top1_mean", "student_mean", "teacher_mean"]].to_numpy(dtype=float)
    shares = pd.Series([gap_recovered(*of_row) for of_row in means], index=table.index, dtype=float)
    return shares.where(table.role == "method")


def _tests(table: pd.DataFrame, reference: pd.Series) -> pd.DataFrame:
    """Returns the TESTS of each method against the reference row of its pair; empty elsewhere and without one.

    Args:
        reference: True in the reference row of each pair.
    """
    found = pd.DataFrame(np.nan, table.index, TESTS).astype({"test": object})
    for _, pair in table[reference | (table.role == "method")].groupby(PAIR, sort=False):
        beside = reference[pair.index]
        others = pair.index[~beside]
        if not beside.any() or others.empty:
            continue
        differences = [compare_rows(table.loc[row], pair[beside].iloc[0]) for row in others]
        of_methods = (pair[beside].role == "method").sum()
        corrected = holm([each.p for each in differences], comparisons=pair.methods.max() - of_methods)
        found.loc[others] = [
            [each.verdict, each.p, p, each.low, each.high, each.bootstrap_low, each.bootstrap_high]
            for each, p in zip(differences, corrected, strict=True)
        ]
    return found
