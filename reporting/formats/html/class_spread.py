"""The accuracy of each class by every network, side by side."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from reporting.formats.html.class_names import ClassNames
from reporting.formats.html.grid import Grid, grid_of_values

MANY_CLASSES = 100  # from so many on only those are shown on which the networks differ most
SHOWN = 20
SPREAD = "spread"


def class_spread(classes: Mapping[str, pd.DataFrame], names: ClassNames) -> Grid:
    """Returns a row for each class with its accuracy by the teacher and each student, and the spread of the students'.

    The spread is the largest accuracy less the smallest, in points; of a single student, with the teacher's.

    Args:
        classes: what scripts/analyse.py wrote of the classes for each student, by its name.
    """
    first = next(iter(classes.values())).sort_values("class").set_index("class")
    teacher, images = first.teacher, first.images
    accuracies = pd.DataFrame({name: table.set_index("class").student for name, table in classes.items()})
    compared = accuracies if len(classes) > 1 else accuracies.assign(teacher=teacher)
    spread = compared.max(axis=1) - compared.min(axis=1)
    labels = first.index
    if len(labels) >= MANY_CLASSES:
        labels = spread.sort_values(ascending=False, kind="stable", na_position="last").index[:SHOWN]
    columns: dict[str, str | None] = {"class": ".0f"}
    named = names.say_more(map(int, labels))
    if named:
        columns["name"] = None
    columns |= {"images": ".0f", "teacher": ".2f"}
    taken = {*columns, SPREAD}
    columns |= {f"{name} (student)" if name in taken else name: ".2f" for name in accuracies}
    rows = []
    for label in labels:
        name = [names.name(int(label))] if named else []
        rows.append([label, *name, images[label], teacher[label], *accuracies.loc[label], spread[label]])
    whose = "of the students" if len(classes) > 1 else "between teacher and student"
    which = f"the {SHOWN} classes with the largest spread {whose}" if len(labels) < len(first) else "every class"
    note = (
        f"The spread is the largest accuracy {whose} less the smallest, in points." if np.isfinite(spread).any() else ""
    )
    return grid_of_values(f"Top-1 (%) of {which}", columns | {SPREAD: ".2f"}, rows, note)
