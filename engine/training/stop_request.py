"""Ctrl-C, SIGTERM and their like: a command finishes its step, saves and ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from common.signals import on_stop_signals, patience

UNSAVED = "nothing is saved since the last checkpoint, where the same command continues"


class StopRequest:
    """Becomes `requested` by one of `STOP_SIGNALS` while `on_signals` is active."""

    requested = False

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take `STOP_SIGNALS` as requests; a later SIGINT, but no repeat of it, raises KeyboardInterrupt.

        Then nothing is saved.
        """

        def request(signum: int) -> None:
            if not self.requested:
                patience.restart()
            repeat = patience.is_repeat()
            if self.requested and signum == signal.SIGINT and not repeat:
                raise KeyboardInterrupt(UNSAVED)
            self.requested = True

        with on_stop_signals(request):
            yield
