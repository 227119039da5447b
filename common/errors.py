"""The ways in which a command ends short of its goal. Each prints one or two lines, never a traceback."""


class RequestError(Exception):
    """What was asked cannot be done. Raised before expensive work; the command exits with 2.

    The message says what is wrong and how to fix it, in one or two lines.
    """


class RunError(Exception):
    """A run that had begun cannot go on (non-finite loss, full disk). The command exits with 1."""


class Interrupted(Exception):
    """Someone asked the command to stop, and its state is saved. The command exits with 130."""


class UndeclaredFieldError(RunError):
    """A method used a field of Features that it did not declare."""
