"""The first thing that a script does, before imports that take seconds."""

import os

from common.signals import exit_on_interrupt


def begin() -> None:
    """Prepare a process that runs a script: Ctrl-C ends it without a traceback, and its standard streams exist.

    To be called by a script that is run, not by one that is imported, before its other imports.
    """
    exit_on_interrupt()
    for descriptor in range(3):
        # The next file to be opened would get the number of a stream that is closed, and what libraries print with it.
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
