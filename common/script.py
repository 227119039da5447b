"""The first and the last thing that a script does: around imports that take seconds, and around its main."""

import os
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import NoReturn

from common.signals import exit_on_stop_signals, ignore_stop_signals


def begin(path: str) -> None:
    """Prepare a process that runs a script: signals end it without a traceback, and its standard streams exist.

    To be called by a script that is run, not by one that is imported, before its other imports. Does nothing where
    another program runs the script (`%run` of a notebook), to which the process belongs.

    Args:
        path: the script's `__file__`.
    """
    if not _is_own_process(path):
        return
    exit_on_stop_signals()
    for descriptor in range(3):
        # The next file to be opened would get the number of a stream that is closed, and what libraries print with it.
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number


def run(main: Callable[[], int], path: str) -> NoReturn:
    """Leave the process with the exit code of a script's main. A signal that comes after it changes nothing."""
    status = main()
    if _is_own_process(path):
        ignore_stop_signals()
    sys.exit(status)


def _is_own_process(path: str) -> bool:
    """True if the process was started with this script, by its path or its module's name."""
    words = sys.orig_argv[1:]
    if any(os.path.exists(word) and os.path.samefile(word, path) for word in words):
        return True
    modules = [word for flag, word in pairwise(words) if flag == "-m"]
    return any(path.endswith(f"{os.sep}{module.replace('.', os.sep)}.py") for module in modules)
