"""Names of classes on the page: numbers, long ones, and those that would turn the text around them."""

import pytest

from reporting.formats.html.class_names import END, ISOLATE, ClassNames


def test_a_class_has_its_number_and_its_name_once():
    names = ClassNames.of(["cat", "1", ""])
    assert [names.text(label) for label in range(4)] == ["0 cat", "1", "2", "3"]
    assert names.say_more([0])
    assert not names.say_more([1, 2, 3])


def test_names_are_cut_and_on_one_line():
    long, broken = ClassNames.of(["x" * 500, "two\nlines\u202e"]).names
    assert len(long) <= 40
    assert broken == "two\\nlines\\u202e"


def test_names_of_other_directions_stand_for_themselves():
    assert ClassNames.of(["שלום", "سلام", "été"]).names == (f"{ISOLATE}שלום{END}", f"{ISOLATE}سلام{END}", "été")


@pytest.mark.parametrize("value", [None, 3, "cat", {"a": 1}, [1, None]])
def test_a_record_may_hold_anything(value):
    names = ClassNames.of(value)
    assert isinstance(names.text(0), str)
    assert names.text(10**9) == str(10**9)
