"""What cells are sorted by."""

import pytest

from reporting.formats.html.grid import number_key


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("31.31        (1)", 31.31),
        ("+2.00 †", 2.0),
        ("-0.73", -0.73),
        ("−0.73", -0.73),
        ("1,143,780", 1143780.0),
        ("+1.20 … +3.40", 1.2),
        ("0.001", 0.001),
        ("< 0.001", 0.001 - 1e-9),
    ],
)
def test_cells_sort_by_the_number_that_they_begin_with(text, number):
    assert float(number_key(text)) == number


@pytest.mark.parametrize("text", ["", "n too small", "no spread", "–", "resnet56"])
def test_what_is_no_number_counts_as_missing(text):
    assert number_key(text) == ""
