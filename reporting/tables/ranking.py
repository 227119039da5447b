"""The figure by which the rows of a table are ordered and marked."""

import pandas as pd


def ranked(rows: pd.DataFrame) -> pd.Series:
    """Returns what rows are ranked by (%): the figure, or under `--select validation` the held-out accuracy.

    A setting that is chosen by its test accuracy is tuned on the test set. NaN where nothing was held out, as of a
    teacher.
    """
    return rows.validation_mean if by_held_out(rows) else rows.top1_mean


def by_held_out(rows: pd.DataFrame) -> bool:
    """Returns whether the rows of the tidy table are ranked by held-out accuracy."""
    return len(rows) > 0 and rows.selection.iloc[0] == "validation"
