"""The places of STD's modules: which blocks they read, and which teachers each learns from."""

import pytest

from common.errors import RequestError
from distiller_zoo import Pair
from distiller_zoo.std_layout import module_blocks, module_places
from tests.distiller_zoo.cases import CNN, MLP, shapes


@pytest.mark.parametrize(
    ("text", "depth", "blocks"),
    [
        ("last", 1, [0]),
        ("last+intermediate", 5, [2, 4]),
        ("last+intermediate", 3, [1, 2]),
        ("8+6", 8, [5, 7]),
        ("last+intermediate", 2, [0, 1]),
        ("3", 3, [2]),
    ],
)
def test_which_blocks_have_modules(text, depth, blocks):
    """Of 5 blocks after the third and the last, as Figure 2 draws it; of CycleMLP-B2's last three after the second."""
    assert module_blocks(text, depth) == blocks


@pytest.mark.parametrize("text", ["first", "", "0", "9", "8+8", "last+8", "6,8", "-1", "last+intermediate+5"])
def test_blocks_that_are_missing(text):
    with pytest.raises(RequestError, match="--std_modules"):
        module_blocks(text, 8)


BOTH = "last+intermediate"


@pytest.mark.parametrize(
    ("modules", "count", "teaching", "heads", "expected"),
    [
        ("last", 1, "each", "each", [(0,)]),
        (BOTH, 1, "each", "each", [(0,), (0,)]),
        (BOTH, 2, "each", "each", [(0,), (1,)]),  # the first teaches the intermediate module
        ("last", 3, "all", "each", [(0, 1, 2)]),
        (BOTH, 2, "all", "last", [(), (0, 1)]),
        (BOTH, 1, "each", "last", [(), (0,)]),
    ],
)
def test_which_teachers_a_module_learns_from(modules, count, teaching, heads, expected):
    places = module_places(Pair(MLP, (CNN,) * count, 50), modules, teaching, heads)
    assert [place.teachers for place in places] == expected
    assert [place.block for place in places] == ([3] if modules == "last" else [1, 3])
    assert {place.shape for place in places} == {(8, 4, 4)}


@pytest.mark.parametrize(("modules", "count", "heads"), [("last", 2, "each"), (BOTH, 3, "each"), (BOTH, 2, "last")])
def test_teachers_that_cannot_be_shared_out(modules, count, heads):
    with pytest.raises(RequestError, match="--std_teachers"):
        module_places(Pair(MLP, (CNN,) * count, 50), modules, "each", heads)


def test_each_place_has_the_shape_of_its_block():
    student = shapes((4, 2, 2), (8, 1, 1), blocks=((4, 2, 2), (8, 1, 1)))
    places = module_places(Pair(student, (CNN,), 50), "1+2", "each", "each")
    assert [place.shape for place in places] == [(4, 2, 2), (8, 1, 1)]


def test_a_student_without_blocks():
    with pytest.raises(RequestError, match="--model_s"):
        module_places(Pair(CNN, (CNN,), 50), "last", "each", "each")
