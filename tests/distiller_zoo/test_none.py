"""none: the student alone."""

from distiller_zoo import METHODS, Pair, Weights, create_method
from tests.distiller_zoo.cases import CNN, assert_published


def test_has_no_loss_and_no_teacher():
    assert_published("none", Weights(1, 0, 0))
    assert METHODS["none"].max_teachers == 0
    assert create_method("none", Pair(CNN, (), 50)).losses(None, (), None) == {}


def test_alias():
    assert METHODS["vanilla"] is METHODS["none"]
