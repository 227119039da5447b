"""Methods over several pairs: average rank and average relative improvement, over the pairs that all of them have."""

import numpy as np
import pandas as pd

from reporting.tables.columns import ACROSS, GROUP, REFERENCE
from reporting.tables.ranking import ranked
from reporting.tables.statistics import average_ranks, average_relative_improvement


def add_averages(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with `common_pairs`, `average_rank` and `ari` of the methods of each group of several pairs.

    Only pairs that all methods of the group have count: a method measured on easy pairs only would otherwise look
    good. There are no averages (NaN) for fewer than 2 such pairs or fewer than 2 methods. Ranks are by the figure that
    orders the tables (`ranking.ranked`). `ari` is over kd; it is NaN for kd itself, and for all methods where kd gains
    nothing over the student alone on one of the pairs.
    """
    table = table.assign(**dict.fromkeys(ACROSS, np.nan))
    for _, rows in table[table.role.isin(["method", "student"])].groupby(GROUP, sort=False):
        methods = rows[rows.role == "method"]
        common = across_pairs(methods).dropna(axis="columns")
        if min(common.shape) < 2:
            continue
        alone = across_pairs(rows[rows.role == "student"]).reindex(columns=common.columns)
        by_rank = across_pairs(methods, ranked(methods)).reindex_like(common)
        averages = pd.DataFrame({"average_rank": average_ranks(by_rank.to_numpy())}, index=common.index)
        averages["ari"] = [_ari(common, alone, method) for method in common.index]
        averages["common_pairs"] = common.shape[1]
        for name in ACROSS:
            table.loc[methods.index, name] = methods.method.map(averages[name])
    return table


def across_pairs(rows: pd.DataFrame, figures: pd.Series | None = None) -> pd.DataFrame:
    """Returns figures (%), methods × (teacher, student); NaN where a method was not run on a pair.

    Args:
        figures: one for each row; None for the means.
    """
    figures = rows.top1_mean if figures is None else figures
    return rows.assign(figure=figures).pivot(index="method", columns=["teacher", "student"], values="figure")


def _ari(common: pd.DataFrame, alone: pd.DataFrame, method: str) -> float:
    """Returns ARI in per cent.

    Args:
        common: figures of the methods, methods × pairs, without NaN.
        alone: figures of the student alone, one row of the same pairs, or none.
    """
    if method == REFERENCE or REFERENCE not in common.index or alone.empty or alone.isna().any(axis=None):
        return np.nan
    figures = (rows.to_numpy() for rows in (common.loc[method], common.loc[REFERENCE], alone.iloc[0]))
    return average_relative_improvement(*figures)
