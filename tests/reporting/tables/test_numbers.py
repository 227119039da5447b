"""Numbers as texts."""

import math

import pytest

from reporting.tables.numbers import interval, number, p_value, signed, spread


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0004, "< 0.001"), (0.0123, "0.012"), (0.0499, "< 0.050"), (0.05, "0.050"), (0.0504, "0.050"), (math.nan, "")],
)
def test_a_significant_p_is_never_printed_as_the_limit(p, text):
    assert p_value(p) == text


def test_signs_decimals_and_what_is_not_known():
    assert [signed(value) for value in (2.0, -0.001, -1.5, math.nan)] == ["+2.00", "+0.00", "−1.50", ""]
    assert [number(12345.678, decimals) for decimals in (0, 1, 2)] == ["12,346", "12,345.7", "12,345.68"]
    assert spread(61.25, math.nan, 1) == "61.25 (1)"
    assert [interval(-1.0, 2.0), interval(math.nan, math.nan)] == ["−1.00 … +2.00", ""]
