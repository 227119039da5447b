"""Signals that end a command, and what each of its stages does with them.

While a script imports, they end the process. From then on a signal raises KeyboardInterrupt, unless training has
handlers of its own, which let it save first. Outside the main thread Python has no handlers, and these do nothing.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Ctrl-C; what `kill`, systems that shut down and clusters send; a closed terminal; what clusters send ahead of a limit.
STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)  # Windows has the first two
)
# Those that are taken even where they are ignored: a shell script ignores Ctrl-C for what it starts with `&`.
ALWAYS = (signal.SIGINT, signal.SIGTERM)
# Signals so close together are one request: a key held down, or torchrun passing on what a terminal has sent already.
REPEAT_SECONDS = 3.0
INTERRUPTED = 130


class Handler:
    """Calls `on_stop(signum)` in the process that installed it; in one that was forked from it the default action."""

    def __init__(self, on_stop: Callable[[int], None]):
        self._on_stop, self._process = on_stop, os.getpid()
        self._late: list[int] = []

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() == self._process:
            self._on_stop(signum)
        else:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)

    def restore(self, former: dict[int, Any]) -> None:
        """Put the former handlers back; a signal that comes meanwhile is theirs."""
        self._on_stop = self._late.append  # nothing may be raised amid this
        for signum, handler in former.items():
            signal.signal(signum, handler)
        for late in self._late[:1]:
            signal.raise_signal(late)


class Patience:
    """Tells a signal that repeats the one before it from one that asks again."""

    def __init__(self) -> None:
        self._last = -float("inf")

    def is_repeat(self) -> bool:
        """True within `REPEAT_SECONDS` of the last signal that was none."""
        now = time.monotonic()
        if now - self._last < REPEAT_SECONDS:
            return True
        self._last = now
        return False

    def restart(self) -> None:
        """Count the next signal, whenever it comes."""
        self._last = -float("inf")


patience = Patience()  # of the process, as its handlers are


@contextmanager
def on_stop_signals(action: Callable[[int], None]) -> Iterator[None]:
    """Call `action(signum)` on `STOP_SIGNALS` within the block; in a thread other than the main one do nothing.

    A signal that is ignored stays so, but for `ALWAYS`: `nohup` ignores SIGHUP. One for which the caller of the suite
    has a handler stays the caller's, but for `ALWAYS` too. The former handlers are restored.
    """
    former: dict[int, Any] = {}
    handler = Handler(action)
    if threading.current_thread() is threading.main_thread():
        for signum in STOP_SIGNALS:
            found = signal.getsignal(signum)
            # None: a handler that is not Python's, which Python could not restore.
            if found is not None and (signum in ALWAYS or found == signal.SIG_DFL or isinstance(found, Handler)):
                former[signum] = found
    try:
        for signum in former:
            signal.signal(signum, handler)
        yield
    finally:
        handler.restore(former)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on `STOP_SIGNALS` within the block; repeats are dropped, so that all can be put away."""

    def interrupt(signum: int) -> None:
        if not patience.is_repeat():
            raise KeyboardInterrupt

    patience.restart()
    with on_stop_signals(interrupt):
        yield


def exit_on_stop_signals() -> None:
    """Let `STOP_SIGNALS` end this process at once, with exit code 130 and without a traceback."""
    handler = Handler(lambda signum: os._exit(INTERRUPTED))
    for signum in STOP_SIGNALS:
        if signum in ALWAYS or signal.getsignal(signum) == signal.SIG_DFL:
            signal.signal(signum, handler)


def ignore_stop_signals() -> None:
    """Ignore `STOP_SIGNALS` from now on: in a process that is ending, or in a worker that the main one will end."""
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
