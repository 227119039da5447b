"""Sentences below the table of a pair: what its figures are worth, and what they cannot be compared with."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from common.messages import counted
from reporting.tables.columns import REFERENCE
from reporting.tables.numbers import number
from reporting.tables.ranking import by_held_out
from reporting.tables.statistics import TOO_FEW, as_printed, sampling_error
from reporting.tables.wording import NAMES, short_name

MANY_IMAGES = 5000  # of a test set whose sampling error is small beside the differences of methods


def pair_notes(pair: pd.DataFrame, shown: pd.DataFrame) -> Iterator[str]:
    """Yields the sentences on a pair.

    Args:
        pair: all rows of the tidy table.
        shown: those that the table shows.
    """
    yield from _best_by_held_out(pair)
    yield from _initial_stages(shown)
    yield from _missing_references(pair)
    yield from _untested(pair)
    yield from _small_test_set(pair)


def _best_by_held_out(pair: pd.DataFrame) -> Iterator[str]:
    """A sentence on the row that is best by held-out images, with the sampling error of that figure."""
    if not by_held_out(pair):
        return
    students = pair[pair.role.isin(["student", "method"])]
    shown = as_printed(students.validation_mean)
    best = students[shown == np.max(shown, initial=-np.inf)]
    if best.empty or pd.isna(best.validation_images.iloc[0]):
        return
    names = " and ".join(short_name(NAMES.get(row.role, row.method)) for row in best.itertuples())
    mean, images = best.validation_mean.iloc[0], int(best.validation_images.iloc[0])
    error = number(sampling_error(mean, images))
    of_images = counted(images, "image")
    yield f"Best by held-out images: {names}, {number(mean)} % (standard error ± {error} for {of_images})."


def _small_test_set(pair: pd.DataFrame) -> Iterator[str]:
    """A sentence on the sampling error of the test figures where few images are tested on."""
    known = pair.test_images.dropna()
    if known.nunique() != 1 or known.iloc[0] >= MANY_IMAGES:
        return
    images, best = int(known.iloc[0]), pair[pair.role.isin(["student", "method"])].top1_mean.max()
    error = number(sampling_error(best, images))
    yield (
        f"There are {images:,} test images: {number(best)} % on them has a standard error of ± {error} from their "
        "choice, beside the deviation over trials."
    )


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
    elif "teacher" in means and np.isnan(means["teacher"]):
        yield "No gap: the teacher has no accuracy on these classes, which are not its own."
    elif "teacher" in means and not np.subtract(*as_printed(means[["teacher", "student"]])) > 0:
        yield "No gap: the teacher is not above the student alone."
    if REFERENCE not in set(pair.method):
        yield f"Nothing is tested against {REFERENCE}: no run of it is among these (--distill {REFERENCE})."


def _untested(pair: pd.DataFrame) -> Iterator[str]:
    tests = {"the student alone": pair.gain_test, REFERENCE: pair.kd_test}
    if untested := [name for name, verdicts in tests.items() if set(verdicts.dropna()) == {TOO_FEW}]:
        others = " and to ".join(untested)
        yield f"The difference to {others}: {TOO_FEW} for a test (it takes 2 trials of both)."
