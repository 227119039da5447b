"""Accuracies of classes side by side: the spread, and the classes that are shown of many."""

import numpy as np
import pandas as pd

from reporting.formats.html.class_names import ClassNames
from reporting.formats.html.class_spread import MANY_CLASSES, SHOWN, class_spread


def table(student, teacher=50.0):
    count = len(student)
    return pd.DataFrame({"class": range(count), "images": 10, "teacher": teacher, "student": student}).astype(float)


def cells(grid):
    names = [name for name, _ in grid.columns]
    return pd.DataFrame([[cell.text for cell in row] for row in grid.rows], columns=names)


def test_the_spread_is_of_the_students():
    found = cells(class_spread({"kd": table([40, 60]), "crd": table([45, 20])}, ClassNames()))
    assert list(found) == ["class", "images", "teacher", "kd", "crd", "spread"]
    assert list(found.spread) == ["5.00", "40.00"]


def test_of_one_student_it_is_to_the_teacher():
    assert list(cells(class_spread({"kd": table([40, 60])}, ClassNames())).spread) == ["10.00", "10.00"]


def test_of_many_classes_those_are_shown_that_differ_most():
    count = MANY_CLASSES + 5
    one, other = np.full(count, 50.0), np.full(count, 50.0)
    other[[7, 90]] = 10, 95
    one[3] = np.nan  # a class without images
    other[3] = np.nan
    grid = class_spread({"kd": table(one), "crd": table(other)}, ClassNames())
    assert len(grid.rows) == SHOWN
    assert [row[0].text for row in grid.rows][:3] == ["90", "7", "0"]
    assert str(SHOWN) in grid.caption
    whole = class_spread({"kd": table(one[: MANY_CLASSES - 1])}, ClassNames())
    assert len(whole.rows) == MANY_CLASSES - 1


def test_names_stand_beside_numbers_and_no_column_is_lost():
    found = cells(class_spread({"name": table([1, 2]), "spread": table([3, 4])}, ClassNames(("cat", "dog"))))
    assert list(found) == ["class", "name", "images", "teacher", "name (student)", "spread (student)", "spread"]
    assert list(found.name) == ["cat", "dog"]
