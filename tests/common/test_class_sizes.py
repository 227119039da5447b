"""Uneven classes: a random split of equal ones is even, classes without images do not count."""

import pytest

from common.class_sizes import are_uneven


@pytest.mark.parametrize(
    ("images", "uneven"),
    [([100] * 5, False), ([49, 50, 51], False), ([50, 0, 50], False), ([10, 12], True), ([], False), ([0, 0], False)],
)
def test_uneven_classes(images, uneven):
    assert are_uneven(images) is uneven
