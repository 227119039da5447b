"""Methods over several pairs: which pairs they share, their average rank and their average relative improvement."""

import numpy as np
import pandas as pd

from reporting.tables.statistics import average_ranks, average_relative_improvement

MOST = 10_000  # sets of pairs that are tried


def add_averages(table: pd.DataFrame, group: list[str], reference: str) -> pd.DataFrame:
    """With the columns `common_pairs`, `average_rank` and `ari` for the methods of groups that have several pairs.

    The averages are over pairs that all averaged methods have (see `without_holes`): a method measured on easy pairs
    only would otherwise look good. A method outside has none. `ari` is over `reference`; it is NaN for the reference
    itself, and for all where the reference gains nothing over the student alone on one of the pairs.

    Args:
        group: the columns within which rows compare.
        reference: the method whose improvement over the student is the unit of ARI.
    """
    table = table.assign(common_pairs=np.nan, average_rank=np.nan, ari=np.nan)
    for _, rows in table[table.role.isin(["method", "student"])].groupby(group, sort=False):
        methods = rows[rows.role == "method"]
        figures = across_pairs(methods)
        if figures.shape[1] < 2:
            continue
        common = without_holes(figures)
        if common.empty:
            continue
        alone = across_pairs(rows[rows.role == "student"]).reindex(columns=common.columns)
        averages = pd.DataFrame({"average_rank": average_ranks(common.to_numpy())}, index=common.index)
        averages["ari"] = [_ari(common, alone, method, reference) for method in common.index]
        averages["common_pairs"] = common.shape[1]
        for name in averages:
            table.loc[methods.index, name] = methods.method.map(averages[name])
    return table


def without_holes(figures: pd.DataFrame) -> pd.DataFrame:
    """The largest part of methods × pairs in which every method has every pair; empty without 2 of each.

    Of parts of one size that with more methods. A single odd row costs the others nothing.
    """
    has = figures.notna().to_numpy()
    best, size = tuple(np.zeros(length, dtype=bool) for length in has.shape), (0, 0)
    for pairs in _intersections(has):
        methods = has[:, pairs].all(axis=1)
        shape = methods.sum(), pairs.sum()
        if min(shape) >= 2 and (shape[0] * shape[1], shape[0]) > size:
            best, size = (methods, pairs), (shape[0] * shape[1], shape[0])
    return figures.loc[best]


def _intersections(rows: np.ndarray) -> list[np.ndarray]:
    """Every set that is the intersection of some rows: what a part without holes has in common is one of them.

    Args:
        rows: methods × pairs, true where the method has the pair. Of very many sets (MOST) some are left out.
    """
    found = {}
    for row in rows:
        for new in (row, *(row & other for other in list(found.values()))):
            if len(found) < MOST:
                found.setdefault(new.tobytes(), new)
    return list(found.values())


def across_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean figures (%), methods × (teacher, student); NaN where a method was not run on a pair."""
    return rows.pivot(index="method", columns=["teacher", "student"], values="top1_mean")


def _ari(common: pd.DataFrame, alone: pd.DataFrame, method: str, reference: str) -> float:
    if method == reference or reference not in common.index or alone.empty or alone.isna().any(axis=None):
        return np.nan
    return average_relative_improvement(common.loc[method], common.loc[reference], alone.iloc[0])
