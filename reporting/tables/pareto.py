"""The students that are worth their cost: those that no other beats, and the smallest that is good enough."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reporting.tables.statistics import as_printed


def on_front(figures: Sequence[float], costs: Sequence[float]) -> np.ndarray:
    """Returns whether each student is on the Pareto front: none is at least as good in both, and better in one.

    Args:
        figures: accuracies (%), compared as printed; NaN where there is none.
        costs: NaN where a cost is not known: such a student is not on the front and beats none.
    """
    figure, cost = as_printed(np.asarray(figures, dtype=float)), np.asarray(costs, dtype=float)
    known = ~(np.isnan(figure) | np.isnan(cost))
    as_good = (figure[:, None] >= figure) & (cost[:, None] <= cost)  # [i, j]: i is as good as j in both
    better = (figure[:, None] > figure) | (cost[:, None] < cost)
    beaten = (as_good & better & known[:, None]).any(axis=0)
    return known & ~beaten


def smallest_within(students: pd.DataFrame, points: float) -> tuple[pd.Series | None, pd.Series | None]:
    """Returns the cheapest student that is close to its teacher, and the one that is closest; None where there is none.

    Of equally cheap ones the more accurate is taken, of equally close ones the cheaper, then the first by name.

    Args:
        students: with `figure` and `teacher_figure` (%), compared as printed, `cost`, `student` and `method`. Those
            without one of the first three are left out.
        points: how far below its teacher a student may be.
    """
    known = students.dropna(subset=["figure", "teacher_figure", "cost"])
    if known.empty:
        return None, None
    known = known.assign(figure=as_printed(known.figure))
    known["below"] = (as_printed(known.teacher_figure) - known.figure).round(6)  # 64.4 − 63.4 is a little above 1
    closest = known.sort_values(["below", "cost", "student", "method"]).iloc[0]
    near = known[known.below <= points]
    if near.empty:
        return None, closest
    order = near.sort_values(["cost", "figure", "student", "method"], ascending=[True, False, True, True])
    return order.iloc[0], closest
