"""The Pareto front and the smallest student near its teacher, against brute force."""

import math

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from reporting.tables.pareto import on_front, smallest_within

# Few different values, so that many are equal; some differ by less than tables print.
FIGURES = st.one_of(st.sampled_from([50.0, 50.001, 60.0, 60.01, 70.0, math.nan]), st.floats(0, 100))
COSTS = st.one_of(st.sampled_from([1.0, 2.0, 3.0, math.nan]), st.floats(0.1, 1e9))
STUDENTS = st.lists(st.tuples(FIGURES, COSTS), max_size=12)
POINTS = st.one_of(st.sampled_from([0.0, 1.0, 10.0, 100.0]), st.floats(0, 100))


def printed(figure):
    return round(figure, 2)


def beats(one, other):
    """By the definition, of two students whose accuracy and cost are known."""
    as_good = printed(one[0]) >= printed(other[0]) and one[1] <= other[1]
    return as_good and (printed(one[0]) > printed(other[0]) or one[1] < other[1])


def known(student):
    return not any(map(math.isnan, student))


@given(STUDENTS)
def test_the_front_is_what_nothing_beats(students):
    found = on_front([figure for figure, _ in students], [cost for _, cost in students])
    expected = [known(one) and not any(beats(other, one) for other in students if known(other)) for one in students]
    assert found.tolist() == expected


def test_equal_students_are_on_the_front_together_and_a_single_one_is_on_it():
    assert on_front([50.0, 50.0, 49.0], [2.0, 2.0, 2.0]).tolist() == [True, True, False]
    assert on_front([50.0], [2.0]).tolist() == [True]
    assert on_front([], []).tolist() == []
    assert on_front([50.0, math.nan, 60.0], [math.nan, 1.0, 9.0]).tolist() == [False, False, True]


def frame(students, teachers):
    rows = [
        {"figure": figure, "cost": cost, "teacher_figure": teacher, "student": f"s{i}", "method": "kd"}
        for i, ((figure, cost), teacher) in enumerate(zip(students, teachers, strict=True))
    ]
    return pd.DataFrame(rows, columns=["figure", "cost", "teacher_figure", "student", "method"])


@given(STUDENTS, st.lists(FIGURES, min_size=12, max_size=12), POINTS)
def test_the_smallest_within_is_the_least_of_all_that_are_near(students, teachers, points):
    """Each student has a teacher's figure of its own, as pairs whose trials had different checkpoints."""
    teachers = teachers[: len(students)]
    smallest, closest = smallest_within(frame(students, teachers), points)
    below = {
        i: round(printed(teacher) - printed(student[0]), 6)
        for i, (student, teacher) in enumerate(zip(students, teachers, strict=True))
        if known(student) and not math.isnan(teacher)
    }
    near = [i for i, distance in below.items() if distance <= points]
    if near:
        chosen = int(smallest.student[1:])
        assert chosen in near
        cheapest = min(students[i][1] for i in near)
        assert students[chosen][1] == cheapest
        assert printed(students[chosen][0]) == max(printed(students[i][0]) for i in near if students[i][1] == cheapest)
    else:
        assert smallest is None
    if below:
        nearest = int(closest.student[1:])
        least = min(below.values())
        assert below[nearest] == least
        assert students[nearest][1] == min(students[i][1] for i, distance in below.items() if distance == least)
    else:
        assert closest is None


def test_a_distance_of_exactly_so_many_points_is_within():
    students = frame([(63.4, 1.0)], [64.4])  # 64.4 − 63.4 is a little more than 1 in binary
    assert 64.4 - 63.4 > 1.0
    assert smallest_within(students, 1.0)[0] is not None
    assert smallest_within(students, 0.99)[0] is None


def test_of_equally_cheap_students_the_most_accurate_then_the_first_name_is_taken():
    students = frame([(60.0, 1.0), (61.0, 1.0), (61.0, 1.0), (90.0, 2.0)], [62.0] * 4)
    assert smallest_within(students, 5.0)[0].student == "s1"
    reversed_rows = students.iloc[::-1]
    assert smallest_within(reversed_rows, 5.0)[0].student == "s1"


def test_a_student_better_than_its_teacher_is_near():
    assert smallest_within(frame([(70.0, 1.0)], [60.0]), 0.0)[0].student == "s0"
    assert np.isnan(frame([(math.nan, 1.0)], [60.0]).figure.iloc[0])
