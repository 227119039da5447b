"""Checks of a method's options, by their names on the command line."""

from common.errors import RequestError


def check_positive(**options: float) -> None:
    """Raise RequestError for the first option that is not above zero."""
    for option, value in options.items():
        if value <= 0:
            raise RequestError(f"--{option} is {value}; it must be positive")


def check_not_negative(**options: float) -> None:
    """Raise RequestError for the first option that is below zero."""
    for option, value in options.items():
        if value < 0:
            raise RequestError(f"--{option} is {value}; it must be 0 or more")
