"""Where the processes that torchrun started find each other, and who of them is missing."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import torch.distributed as dist

from common.command import say
from common.errors import RequestError
from engine.device.torchrun import torchrun_ranks

# Processes start together; what one imports may still lie on a slow disk.
ARRIVAL_SECONDS = 45.0
# Long enough for rank 0 to fetch a data set while the others wait.
TIMEOUT = timedelta(minutes=30)
REPORT_SECONDS = 45.0  # between two lines about who is waited for
SLICE_SECONDS = 0.5  # of waiting; a signal is heard between two
HIGHEST_PORT = 65535
ADVICE = "start all processes with torchrun"


@dataclass
class Meeting:
    """The place where processes find each other: a store that rank 0, or torchrun's agent, serves.

    Attributes:
        rounds: how many process groups this process has formed there; each has keys of its own.
    """

    store: dist.Store
    rank: int
    size: int
    rounds: int = 0

    def next_round(self) -> dist.Store:
        """Wait until all processes form their next group, and return its store.

        Some may still be reading their teachers, or fetching them.

        Raises:
            RequestError: they do not come.
        """
        self.rounds += 1
        self.wait_for_all(f"ready {self.rounds}", TIMEOUT.total_seconds())
        return dist.PrefixStore(f"group {self.rounds}", self.store)

    def wait_for_all(self, what: str, seconds: float) -> None:
        """Announce this process under a name, and wait for the others; say every `REPORT_SECONDS` for whom.

        Raises:
            RequestError: some are missing after so many seconds; the message names their ranks.
        """
        self.store.set(f"{what}/{self.rank}", "")
        missing = [rank for rank in range(self.size) if rank != self.rank]
        began = reported = time.monotonic()
        while missing:
            with suppress(dist.DistStoreError):  # not yet
                self.store.wait([f"{what}/{missing[0]}"], timedelta(seconds=SLICE_SECONDS))
            missing = [rank for rank in missing if not self.store.check([f"{what}/{rank}"])]
            now = time.monotonic()
            if missing and now - began > seconds:
                late = f"{_ranks(missing)} of {self.size} did not come within {seconds:.0f} seconds"
                raise RequestError(f"rank {self.rank}: {late}; {ADVICE}")
            if missing and now - reported > REPORT_SECONDS:
                say(f"rank {self.rank}: waiting for {_ranks(missing)} of {self.size}")
                reported = now


def meet() -> Meeting | None:
    """Wait until all processes that torchrun started are there; None in a single one.

    To be called early: whoever is missing is known before others fetch data or read teachers.

    Raises:
        RequestError: some do not come, or the environment variables of torchrun do not lead to a common place.
    """
    rank, size, _ = torchrun_ranks()
    if size == 1:
        return None
    return _meeting(rank, size, os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", ""))


@cache
def _meeting(rank: int, size: int, address: str, port: str) -> Meeting:
    if not address or not port.isdecimal() or int(port) > HIGHEST_PORT:
        raise RequestError(f"rank {rank} of {size}: MASTER_ADDR={address} MASTER_PORT={port} is no address; {ADVICE}")
    # torchrun may serve the store itself, and says so.
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    timeout = timedelta(seconds=ARRIVAL_SECONDS)
    try:
        store = dist.TCPStore(
            address, int(port), size, serves, timeout=timeout, wait_for_workers=False, multi_tenant=serves
        )
        store.set_timeout(TIMEOUT)
        meeting = Meeting(store, rank, size)
        meeting.wait_for_all("arrived", ARRIVAL_SECONDS)
    except (RuntimeError, ValueError) as error:
        raise RequestError(f"rank {rank} of {size}: {_why_apart(error, serves, f'{address}:{port}')}") from error
    return meeting


def _why_apart(error: Exception, serves: bool, place: str) -> str:
    """Why a process does not reach the store, and what to do."""
    reason = first_line(error)
    if "EADDRINUSE" in reason:
        return (
            f"port {place.rpartition(':')[2]} is in use; start with torchrun --standalone, or set another MASTER_PORT"
        )
    if serves:
        return f"the others cannot be met at {place} ({reason}); {ADVICE}"
    return f"rank 0 is missing, or cannot be reached at {place} ({reason}); {ADVICE}"


def _ranks(ranks: list[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]
