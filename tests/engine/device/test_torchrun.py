"""What torchrun's environment variables say, and what no launcher would set."""

import pytest

from common.errors import RequestError
from engine.device.torchrun import is_distributed, local_processes, torchrun_ranks

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
ALONE = (0, 1, 0)


def set_ranks(monkeypatch, *values):
    for name, value in zip(NAMES, values, strict=True):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((None, None, None), ALONE),
        (("0", "1", "0"), ALONE),
        (("1", None, "1"), ALONE),
        (("1", "2", None), ALONE),  # some clusters number machines so
        (("1", "2", ""), ALONE),
        ((None, "1", None), ALONE),
        (("3", "4", "1"), (3, 4, 1)),
    ],
)
def test_ranks(values, expected, monkeypatch):
    set_ranks(monkeypatch, *values)
    assert torchrun_ranks() == expected
    assert is_distributed() == (expected[1] > 1)


@pytest.mark.parametrize(
    "values",
    [
        (None, "2", None),
        (None, "2", "0"),
        ("", "2", "0"),
        ("2", "2", "0"),
        ("-1", "2", "0"),
        ("5", "1", "0"),
        ("0", "0", "0"),
        ("0", "-2", "0"),
        ("0", "2", "2"),
        ("0", "2", "-1"),
        ("one", "2", "0"),
        ("0", "2.0", "0"),
        (None, "many", None),
        ("9" * 5000, "2", "0"),
    ],
)
def test_what_is_refused(values, monkeypatch):
    set_ranks(monkeypatch, *values)
    with pytest.raises(RequestError, match=r"WORLD_SIZE.*torchrun") as refused:
        torchrun_ranks()
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(("text", "number"), [("4", 4), ("", 1), ("many", 1)])
def test_processes_on_this_machine(text, number, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", text)
    assert local_processes() == number
