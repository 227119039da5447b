"""The exceptions that end a command early. Each is printed as one or two lines, without a traceback."""


class RequestError(Exception):
    """The request cannot be carried out; raised before expensive work. The command exits with 2.

    The message says in one or two lines what is wrong and what to do.
    """


class RunError(Exception):
    """A run that has begun cannot go on (non-finite loss, full disk). The command exits with 1."""


class Interrupted(Exception):
    """The command was asked to stop, and its state is saved. The command exits with 130."""


class UndeclaredFieldError(RunError):
    """A method used a field of Features that it did not declare."""


class DataError(RunError):
    """What all runs share cannot go on: an image, or a process that decodes images. Every run's state is saved."""
