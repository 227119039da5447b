"""Where the processes that torchrun started find each other, and who of them is missing."""

import os
import socket
import threading
import time
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
LOOK_SECONDS = 0.1
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
        missing = list(range(self.size))
        began = reported = time.monotonic()
        while missing:
            missing = [rank for rank in missing if not self.store.check([f"{what}/{rank}"])]
            now = time.monotonic()
            if missing and now - began > seconds:
                late = f"{_ranks(missing)} of {self.size} did not come within {seconds:.0f} seconds"
                raise RequestError(f"rank {self.rank}: {late}; {ADVICE}")
            if missing and now - reported > REPORT_SECONDS:
                say(f"rank {self.rank}: waiting for {_ranks(missing)} of {self.size}")
                reported = now
            if missing:  # the store's own waiting would hear no signal, and warns at each look
                time.sleep(LOOK_SECONDS)


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
    end = time.monotonic() + ARRIVAL_SECONDS
    try:
        if not serves:
            _wait_for_server(address, int(port), end)
        store = _store(address, int(port), serves, end)
        meeting = Meeting(store, rank, size)
        meeting.wait_for_all("arrived", ARRIVAL_SECONDS)
    except (RuntimeError, ValueError, OSError) as error:
        raise RequestError(f"rank {rank} of {size}: {_why_apart(error, serves, f'{address}:{port}')}") from error
    return meeting


def _wait_for_server(address: str, port: int, end: float) -> None:
    """Wait until somebody listens: torch's own waiting takes twice as long, hears no signal and warns in pages.

    Raises:
        OSError: nobody does until `end` on the monotonic clock.
    """
    while True:
        try:
            socket.create_connection((address, port), timeout=ARRIVAL_SECONDS).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(LOOK_SECONDS)


def _store(address: str, port: int, serves: bool, end: float) -> dist.Store:
    """The store at an address, which this process may have to serve itself.

    Raises:
        RuntimeError: the port is in use.
        OSError: whoever listens there gives no answer until `end`; torch would wait for it forever.
    """
    made: list[dist.Store | Exception] = []

    def make() -> None:
        try:
            store = dist.TCPStore(address, port, None, serves, TIMEOUT, wait_for_workers=False, multi_tenant=serves)
            made.append(store)
        except Exception as error:
            made.append(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    while not made:
        if time.monotonic() > end:
            raise OSError("what listens there is no process of this run")
        thread.join(LOOK_SECONDS)
    if isinstance(made[0], Exception):
        raise made[0]
    return made[0]


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
