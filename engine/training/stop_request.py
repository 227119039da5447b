"""Ctrl-C and SIGTERM: a command finishes its step, saves and ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class StopRequest:
    """Becomes `requested` by SIGINT or SIGTERM while `on_signals` is active."""

    requested = False

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as requests; a second SIGINT raises KeyboardInterrupt and nothing is saved."""

        def handle(signum, frame):
            if self.requested and signum == signal.SIGINT:
                raise KeyboardInterrupt
            self.requested = True

        previous = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)
