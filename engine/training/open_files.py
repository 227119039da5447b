"""Room for the files that many runs keep open at the same time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from common.errors import RequestError

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

PER_RUN = 3  # its folder, its lock and its TensorBoard events
SPARE = 50  # what is open for a moment only, and pipes to worker processes
UNKNOWN_IN_USE = 100  # where the system does not list them


@contextmanager
def room_for_files(runs: int) -> Iterator[None]:
    """Raise the system's limit on open files within the block, as far as so many runs need it.

    Raises:
        RequestError: several runs need more than the system allows.
    """
    if resource is None or runs < 2:
        yield
        return
    in_use = files_in_use()
    needed = in_use + SPARE + PER_RUN * runs
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _raise_limit(needed, *before)
    if allowed < needed:
        raise RequestError(
            f"{runs} runs at a time need {needed} open files, and this system allows {allowed}; give at most "
            f"{max(1, (allowed - in_use - SPARE) // PER_RUN)} runs a command, or allow more (ulimit -n)"
        )
    try:
        yield
    finally:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _raise_limit(needed: int, soft: int, hard: int) -> int:
    """Raise the soft limit to the number that is needed, if the hard one allows that; returns what is allowed."""
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return needed
    if hard != resource.RLIM_INFINITY and needed > hard:
        return hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError):  # macOS has another limit behind these
        return soft
    return needed


def files_in_use() -> int:
    """The number of files that this process has open, as far as the system lists them."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return len(os.listdir(folder))
    return UNKNOWN_IN_USE
