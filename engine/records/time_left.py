"""How long a command still takes, from the time that its steps have taken so far."""

import time
from collections.abc import Callable


class TimeLeft:
    """A clock that starts when it is made.

    Args:
        steps_left: returns the number of steps that all runs of the command have still to take.
    """

    def __init__(self, steps_left: Callable[[], int]):
        self._steps_left, self._first, self._began = steps_left, steps_left(), time.monotonic()

    def seconds(self) -> tuple[float, float] | None:
        """Seconds that are left, and seconds in all; None as long as no step has been taken."""
        left = self._steps_left()
        taken, elapsed = self._first - left, time.monotonic() - self._began
        if taken <= 0:
            return None
        rest = elapsed / taken * left
        return rest, elapsed + rest

    def short(self) -> str:
        """The time that is left, as "3.2 h left"; "" if none is, or if it is unknown."""
        estimate = self.seconds()
        return f"{in_words(estimate[0])} left" if estimate and estimate[0] else ""

    def long(self) -> str:
        """The time that is left and that in all, as "3.2 h of about 21 h left"; "" if it is unknown."""
        estimate = self.seconds()
        return f"{in_words(estimate[0])} of about {in_words(estimate[1])} left" if estimate else ""


def in_words(seconds: float) -> str:
    """A duration in its usual unit with two digits: 45 s, 12 min, 3.2 h, 21 h, 4.5 days."""
    for size, unit, most in ((1, "s", 100), (60, "min", 100), (3600, "h", 48)):
        if seconds < size * most:
            return _rounded(seconds / size, unit)
    return _rounded(seconds / 86400, "days")


def _rounded(value: float, unit: str) -> str:
    return f"{value:.1f} {unit}" if value < 9.95 and unit in ("h", "days") else f"{value:.0f} {unit}"
