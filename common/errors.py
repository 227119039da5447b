"""The two ways in which a command ends short of its goal. Both print one or two lines, never a traceback."""


class RequestError(Exception):
    """What was asked cannot be done. Raised before expensive work; the command exits with 2.

    The message says what is wrong and how to mend it, in one or two lines.
    """

    exit_code = 2


class RunError(Exception):
    """A run that had begun cannot go on (non-finite loss, full disk). The command exits with 1."""

    exit_code = 1
