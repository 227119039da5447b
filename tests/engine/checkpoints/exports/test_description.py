import pytest

from common.errors import RequestError
from engine.checkpoints.exports.description import KEY, Description, description_in

NAMED = Description("resnet8", "pets", 2, 64, "uint8", "middle", ("kedi", "köpek"), "ab" * 32, {"label": "kd"})


def test_it_survives_a_file():
    assert description_in(NAMED.as_metadata(), "file") == NAMED


def test_classes_have_names_or_numbers():
    assert NAMED.class_name(1) == "köpek"
    assert Description("resnet8", "pets", 2, 64, "uint8").class_name(1) == "1"


def test_as_many_names_as_classes():
    with pytest.raises(ValueError, match="3"):
        Description("resnet8", "pets", 3, 64, "uint8", "whole", ("a", "b"))


@pytest.mark.parametrize(
    "metadata", [{}, {KEY: "{"}, {KEY: "[]"}, {KEY: "{}"}, {KEY: '{"classes": 3}'}, {KEY: "[" * 9999}]
)
def test_damaged_descriptions_are_refused(metadata):
    with pytest.raises(RequestError, match="file"):
        description_in(metadata, "file")
