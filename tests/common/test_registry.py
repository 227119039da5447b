"""Registries: what is registered within `temporarily` is gone behind it."""

import pytest

from common.errors import RequestError
from common.registry import Registry


def test_temporary_entries_are_undone_even_after_an_error():
    registry: Registry[int] = Registry("thing")
    registry.add("one", 1, ["first"])
    with pytest.raises(ValueError), registry.temporarily({"one": 10}):  # noqa: PT011, PT012
        registry.add("two", 2, ["second"])
        assert [registry["first"], registry["second"]] == [10, 2]
        raise ValueError
    assert dict(registry.items()) == {"one": 1}
    with pytest.raises(RequestError):
        registry.canonical("second")
    registry.add("two", 2, ["second"])  # the names are free again
