"""Geometry of charts: ticks, and names that cover nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reporting.formats.html.chart import Scale, place_names

finite = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@given(st.lists(finite, min_size=1, max_size=20), st.booleans())
def test_ticks_are_few_in_order_and_within_the_chart(values, whole):
    scale = Scale(values, 0, 400, whole)
    positions = [tick.position for tick in scale.ticks()]
    assert positions == sorted(set(positions))
    assert len(positions) <= 8
    assert all(-0.1 <= position <= 400.1 for position in positions)
    assert all(0 <= scale(value) <= 400 for value in values)
    assert len({tick.label for tick in scale.ticks()}) == len(positions)


AROUND = [(200, 100, "kd"), (215, 100, "crd"), (185, 100, "pkt"), (200, 85, "dkd"), (200, 115, "fsp")]


@pytest.mark.parametrize(
    ("points", "places"),
    [
        ([], []),
        ([(200, 100, "kd")], [(208, 104, "start")]),
        # The chart ends at 480: of two letters the last ends at 458 + 16.8, of ten at 458 + 84.
        ([(450, 100, "kd")], [(458, 104, "start")]),
        ([(450, 100, "similarity")], [(442, 104, "end")]),
        # One point more each time closes the next of the places around the first: right, left, above, below.
        (AROUND[:2], [(192, 104, "end"), (223, 104, "start")]),
        (AROUND[:3], [(200, 91, "middle"), (223, 104, "start"), (177, 104, "end")]),
        (AROUND[:4], [(200, 118, "middle"), (223, 104, "start"), (177, 104, "end"), (208, 89, "start")]),
        (AROUND, [None, (223, 104, "start"), (177, 104, "end"), (208, 89, "start"), (208, 119, "start")]),
    ],
)
def test_names_stand_where_there_is_room(points, places):
    """To the right, else to the left, above and below; worked out by hand."""
    assert place_names(points) == places


@given(st.lists(st.tuples(st.floats(52, 466), st.floats(14, 274), st.sampled_from(["kd", "similarity"])), max_size=30))
def test_names_in_a_chart_cover_neither_each_other_nor_a_point(points):
    boxes = []
    for (_, _, name), place in zip(points, place_names(points), strict=True):
        if place is not None:
            x, y, anchor = place
            wide = 8.4 * len(name)
            left = {"start": x, "end": x - wide, "middle": x - wide / 2}[anchor]
            boxes.append((left, y - 11, left + wide, y + 3))
    if points:
        assert boxes or len(points) > 1  # a point of its own always has a name
    for i, box in enumerate(boxes):
        assert not any(_inside(box, x, y) for x, y, _ in points)
        assert all(np.min([box[2] - b[0], b[2] - box[0], box[3] - b[1], b[3] - box[1]]) <= 0.2 for b in boxes[i + 1 :])


def _inside(box, x, y):
    return box[0] < x < box[2] and box[1] < y < box[3]
