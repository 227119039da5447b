"""Checks of options: the flag and the value are named."""

import pytest

from common.errors import RequestError
from distiller_zoo.checks import check_not_negative, check_positive


def test_positive():
    check_positive(some_T=1e-9, other=3)
    for value in (0, -1.5):
        with pytest.raises(RequestError) as refusal:
            check_positive(fine=1, some_T=value)
        assert f"--some_T is {value}" in str(refusal.value)


def test_not_negative():
    check_not_negative(some_T=0, other=3)
    with pytest.raises(RequestError) as refusal:
        check_not_negative(fine=0, some_T=-0.5)
    assert "--some_T is -0.5" in str(refusal.value)
