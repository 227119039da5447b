"""Sentences on which method won on each pair, by how much, and how surely."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from common.messages import counted
from reporting.tables.columns import GROUP, PAIR
from reporting.tables.comparisons import compare_rows
from reporting.tables.numbers import ALPHA, number, p_value, signed
from reporting.tables.ranking import by_held_out, ranked
from reporting.tables.statistics import CONFIDENCE, TESTED, TOO_FEW, Difference, as_printed

HOW_SURE = (
    "p is by Welch's t-test, corrected for the methods or rivals that the winner was picked from (over the student "
    "alone by Holm's method, as in the tables, over the next by Bonferroni's); the interval is Welch's "
    f"{CONFIDENCE:.0%} interval of one comparison."
)


@dataclass(frozen=True)
class Verdict:
    """A sentence about a pair or about all pairs of a protocol: where, which method with its figure, and how surely."""

    where: str
    winner: str
    text: str
    tested: bool = False


def verdicts(table: pd.DataFrame) -> Iterator[Verdict]:
    """Yields a verdict for each pair that has a method, and one for each group of pairs that all methods have."""
    for _, group in table[table.role.isin(["student", "method"])].groupby(GROUP, sort=False):
        for _, pair in group.groupby(PAIR, sort=False):
            methods = pair[pair.role == "method"]
            if not methods.empty:
                yield _of_pair(pair[pair.role == "student"], methods)
        ranks = group[group.role == "method"].groupby("method", sort=False)[["average_rank", "common_pairs"]].first()
        ranks = ranks.dropna().sort_values("average_rank", kind="stable")
        if len(ranks) > 1:
            yield _of_group(group.iloc[0], ranks)


def _of_pair(alone: pd.DataFrame, methods: pd.DataFrame) -> Verdict:
    shown, held_out = as_printed(ranked(methods)), by_held_out(methods)
    best, others = methods[shown == shown.max()], methods[shown < shown.max()]
    first = best.iloc[0]
    where = f"{_place(first)}, {f'{first.teacher} → ' if first.teacher else ''}{first.student}"
    below = bool(as_printed(first.gain) < 0)
    over = ", below the student alone" if below else " over the student alone"
    if len(best) > 1:
        gain = signed(first.gain) + over if pd.notna(first.gain) else "the best of all"
        return Verdict(where, f"{_listed(best.method)} {number(shown.max())}", f"share the best mean: {gain}.")
    comparisons = []
    if not alone.empty:
        comparisons.append((signed(first.gain) + over, compare_rows(first, alone.iloc[0]), first.gain_p_holm))
    if not others.empty:
        rival = others.iloc[0]
        lead = signed(first.top1_mean - rival.top1_mean)
        difference = compare_rows(first, rival)
        rivals = max(len(methods), methods.methods.max()) - 1  # also those that are not shown
        comparisons.append((f"{lead} over the next, {rival.method}", difference, min(1.0, rivals * difference.p)))
    around = f" ± {number(first.top1_std)}" if number(first.top1_std) else ""
    winner = f"{first.method} {number(first.top1_mean)}{around} ({counted(first.n, 'trial')})"
    if held_out:
        of_figure = winner.removeprefix(f"{first.method} ")
        winner = f"{first.method} {number(first.validation_mean)} on held-out images, {of_figure} on the test set"
    if not comparisons:
        return Verdict(where, winner, "the only figure, with nothing to compare it with.")
    tested = any(difference.verdict == TESTED for _, difference, _ in comparisons)
    if below:
        winner = f"No method is above the student alone; the best is {winner}"
    return Verdict(where, winner, _joined(comparisons), tested)


def _joined(comparisons: list[tuple[str, Difference, float]]) -> str:
    """Returns each difference with how sure it is; once for all where none of them can be tested."""
    if all(difference.verdict == TOO_FEW for _, difference, _ in comparisons):
        return " and ".join(text for text, _, _ in comparisons) + f"; {TOO_FEW} for a test."
    return "; ".join(f"{text} ({how_sure(difference, p)})" for text, difference, p in comparisons) + "."


def how_sure(difference: Difference, p: float) -> str:
    """Returns how sure a difference is, in words.

    Args:
        p: of the difference, corrected for the number of methods that the winner was picked from.
    """
    if difference.verdict == TOO_FEW:
        return f"{TOO_FEW} for a test"
    if difference.verdict != TESTED:
        return f"{difference.verdict} between trials, so no test"
    shown = p_value(p)
    shown = f"p {shown}" if shown.startswith("<") else f"p = {shown}"
    sure = "significant" if p < ALPHA else "not significant"
    return f"{sure}, {shown}, interval {signed(difference.low)} … {signed(difference.high)}"


def _of_group(row: pd.Series, ranks: pd.DataFrame) -> Verdict:
    """Returns the verdict on all pairs, by average rank, without a test."""
    leaders = ranks[np.isclose(ranks.average_rank, ranks.average_rank.iloc[0])]
    rest = ranks.drop(leaders.index)
    text = f"best average rank of {len(ranks)} methods over the {int(ranks.common_pairs.iloc[0])} pairs that all have"
    following = f"; next {rest.index[0]} {number(rest.average_rank.iloc[0])}" if len(rest) else ""
    winner = f"{_listed(leaders.index)} {number(leaders.average_rank.iloc[0])}"
    return Verdict(f"{_place(row)}, all pairs", winner, f"{text}{following}.")


def _place(row: pd.Series) -> str:
    return f"{row.dataset} ({row.protocol}{f', {row.group}' if row.group else ''})"


def _listed(names: pd.Series | pd.Index) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
