"""What torchrun says of a process in its environment: its number, and how many there are."""

import os

from common.errors import RequestError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
ADVICE = "start with torchrun, or unset them"


def is_distributed() -> bool:
    """True if torchrun started this process as one of several.

    Raises:
        RequestError: torchrun's environment variables contradict each other.
    """
    return torchrun_ranks()[1] > 1


def torchrun_ranks() -> tuple[int, int, int]:
    """RANK, WORLD_SIZE and LOCAL_RANK as torchrun sets them; (0, 1, 0) for a process on its own.

    That is one without WORLD_SIZE, or without LOCAL_RANK: some clusters set the other two themselves, for machines
    rather than processes.

    Raises:
        RequestError: RANK is missing, or one of them is no number or out of range.
    """
    values = {name: os.environ.get(name, "") for name in NAMES}
    if not values["WORLD_SIZE"] or (values["RANK"] and not values["LOCAL_RANK"]):
        return 0, 1, 0
    given = ", ".join(f"{name}={value[:20]}" for name, value in values.items() if value)
    try:
        rank, size, local_rank = (int(value or 0) for value in values.values())
    except ValueError:
        raise RequestError(f"{given} must be whole numbers; {ADVICE}") from None
    if not values["RANK"] and size == 1:
        return 0, 1, 0
    if not 0 <= rank < size or not 0 <= local_rank < size:
        raise RequestError(f"{given} is not possible: ranks count from 0 to WORLD_SIZE - 1; {ADVICE}")
    if not values["RANK"]:
        raise RequestError(f"{given} says that there are several processes, and RANK is not set; {ADVICE}")
    return rank, size, local_rank


def local_processes() -> int:
    """The number of processes that torchrun started on this machine; 1 if it does not say."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(text) if text.isdecimal() else 1
