"""The time that a command still takes, by the steps that were taken so far."""

import pytest

from engine.records import time_left
from engine.records.time_left import TimeLeft, in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (45 * 60, "45 min"),
        (5999, "100 min"),
        (6000, "1.7 h"),
        (3.2 * 3600, "3.2 h"),
        (9.96 * 3600, "10 h"),
        (21 * 3600, "21 h"),
        (4.5 * 86400, "4.5 days"),
        (400 * 86400, "400 days"),
    ],
)
def test_durations(seconds, words):
    assert in_words(seconds) == words


def test_the_rest_is_as_fast_as_what_was_seen(monkeypatch):
    now, left = [0.0], [100]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: now[0])
    clock = TimeLeft(lambda: left[0])
    assert (clock.seconds(), clock.short(), clock.long()) == (None, "", "")
    now[0], left[0] = 3600.0, 75
    assert clock.seconds() == (10800.0, 14400.0)
    assert (clock.short(), clock.long()) == ("3.0 h left", "3.0 h of about 4.0 h left")
    left[0] = 0  # those that fail take no further step
    assert clock.short() == ""
