"""Words of the tables: titles, names of rows and columns, and the legend."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reporting.tables.columns import REFERENCE
from reporting.tables.numbers import ALPHA
from reporting.tables.statistics import BOOTSTRAP_TRIALS, CONFIDENCE, TESTED

NAMES = {"teacher": "teacher", "student": "student alone"}  # of rows, by role; all others go by their method

LONGEST_NAME = 50  # letters of a method's name in a sentence


@dataclass(frozen=True)
class FigureWords:
    """Words for the figure of a table, by which epoch it is of.

    Attributes:
        column: name of its column.
        beside, beside_column: name of the column beside it, and where the tidy table has it.
        legend: what the legend calls it.
        heading: what headings of tables add.
        figure: the columns of the tidy table that have it, `top1` or `validation`.
    """

    column: str
    beside: str
    beside_column: str
    legend: str
    heading: str = ""
    figure: str = "top1"


FIGURE_WORDS = {
    "last": FigureWords("last top-1 (n)", "best top-1", "best_mean", "the last epoch's test accuracy (top-1, %)"),
    "best": FigureWords(
        "best top-1 (n)",
        "last top-1",
        "last_mean",
        "the test accuracy (top-1, %) of the epoch that is best on the test set, which flatters it",
        "; the best epoch, chosen on the test set",
    ),
    "validation": FigureWords(
        "held-out top-1 (n)",
        "last top-1",
        "last_mean",
        "the accuracy (top-1, %) on held-out training images, of the epoch that is best on them",
        "; chosen on held-out training images",
        "validation",
    ),
}


def figure_words(rows: pd.DataFrame) -> FigureWords:
    """Returns the words for the epoch that these rows of the tidy table are of."""
    return FIGURE_WORDS[rows.selection.iloc[0]]


def data_title(place: Sequence[object]) -> str:
    """Returns a title of a data set, its classes, image size and group (which may be "")."""
    dataset, classes, size, group = place
    return f"{dataset}, {classes} classes, {size}×{size}" + (f", {group}" if group else "")


def pair_title(teacher: str, student: str) -> str:
    """Returns a title of a pair of networks; without a teacher the student's."""
    return f"{teacher} → {student}" if teacher else f"{student}, no teacher"


def short_name(name: str) -> str:
    """Returns a method's name for a sentence, where it cannot be folded as a cell can."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def legend(table: pd.DataFrame) -> str:
    """Returns the legend of the columns that the tidy table fills; "" for an empty one."""
    if table.empty:
        return ""
    parts = [
        f"The figure is {figure_words(table).legend}, mean ± sample standard deviation over (n) trials; "
        "the teacher's is over its distinct checkpoints."
    ]
    if table.selection.iloc[0] == "last":
        parts.append("The best epoch is shown beside it and is chosen on the test set.")
    if table.selection.iloc[0] == "validation":
        parts.append(
            "Rows are ordered, ranked and marked by it. Test top-1 is the test accuracy of that epoch, which chose "
            "nothing; gains, tests and the gap are of it."
        )
    elif table.selection.iloc[0] == "best":
        parts.append("A teacher's figure is that of the file that taught, of the epoch that its name says.")
    if table.gain.notna().any():
        parts.append("Gain is over the student alone, in points.")
    if (table.uneven_classes & table.balanced_mean.notna()).any():
        parts.append("Balanced is the mean accuracy of the classes (%), each counting once, of the figure's epoch.")
    if table.gap_recovered.notna().any():
        parts.append("Gap is the share of the way from the student alone to the teacher that is covered.")
    if (table[["gain_test", "kd_test"]] == TESTED).any(axis=None):
        parts.append(
            f"† marks a difference to the student alone or to {REFERENCE} with p < {ALPHA} by Welch's t-test after "
            "Holm's correction over all methods of the pair, tested and shown or not; it takes 2 trials on both sides."
        )
    if (table.kd_test == TESTED).any():
        parts.append(
            f"The {CONFIDENCE:.0%} interval is Welch's, of one difference by itself; the bootstrap's takes "
            f"{BOOTSTRAP_TRIALS} trials on both sides."
        )
    parts.append("Bold marks the best mean, italics or underlining the second best.")
    if table.peak_memory_mib.notna().any():
        parts.append("Peak memory is that of the process, which the runs of one command share.")
    if table.seconds_per_epoch.notna().any():
        parts.append("Seconds are as recorded, and compare only where nothing else ran beside the runs.")
    return " ".join(parts)
