"""Signals: which are taken, by whom, and that everything is the caller's again afterwards."""

import multiprocessing
import os
import signal
import threading

import pytest

from common import signals
from common.command import guard
from common.signals import STOP_SIGNALS, ignore_stop_signals, on_stop_signals
from engine.training.stop_request import StopRequest
from tests.helpers import default_stop_signals

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")

INTERRUPTED = 130


@pytest.fixture(autouse=True)
def _signals_as_in_a_terminal():
    with default_stop_signals():
        yield


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands; one that is moved by hand."""
    times = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: times[0])
    return times


def handlers():
    return [signal.getsignal(signum) for signum in STOP_SIGNALS]


def sending(*signums):
    """A command that gets signals at once and then goes on."""

    def main(argv):
        for signum in signums:
            signal.raise_signal(signum)
        return 0

    return guard(main)


@pytest.mark.parametrize("signum", STOP_SIGNALS, ids=lambda signum: signum.name)
def test_any_of_them_interrupts_a_command_that_has_nothing_to_save(signum, capsys):
    before = handlers()
    assert sending(signum)([]) == INTERRUPTED
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert handlers() == before


@pytest.mark.parametrize("signum", STOP_SIGNALS, ids=lambda signum: signum.name)
def test_training_takes_them_as_requests(signum):
    before, stop = handlers(), StopRequest()
    with stop.on_signals():
        assert not stop.requested
        signal.raise_signal(signum)
        assert stop.requested
    assert handlers() == before


def test_a_later_control_c_does_not_wait_for_the_saving(clock):
    stop = StopRequest()
    with stop.on_signals():
        for _ in range(5):  # a key held down, or torchrun that passes on what the terminal has sent already
            signal.raise_signal(signal.SIGINT)
        clock[0] += signals.REPEAT_SECONDS
        signal.raise_signal(signal.SIGTERM)  # an order to end is no reason to lose anything
        clock[0] += signals.REPEAT_SECONDS
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # all is put away undisturbed


def test_a_command_that_is_interrupted_puts_everything_away_undisturbed(clock):
    done = []

    @guard
    def main(argv):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            done.append("put away")
        return 0

    assert main([]) == INTERRUPTED
    assert done
    assert main([]) == INTERRUPTED  # the next command hears its first signal, however soon
    assert len(done) == 2


def test_what_is_ignored_stays_ignored():
    """As by nohup. Ctrl-C is heard all the same: shell scripts ignore it for all that they start with &."""
    for signum in (signal.SIGHUP, signal.SIGINT):
        former = signal.signal(signum, signal.SIG_IGN)
        try:
            assert sending(signum)([]) == (0 if signum == signal.SIGHUP else INTERRUPTED)
            assert signal.getsignal(signum) == signal.SIG_IGN
        finally:
            signal.signal(signum, former)


def test_a_handler_of_the_callers_stays():
    heard = []
    former = signal.signal(signal.SIGUSR1, lambda signum, frame: heard.append(signum))
    try:
        assert sending(signal.SIGUSR1)([]) == 0
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert heard == [signal.SIGUSR1]


def test_a_thread_has_no_handlers():
    found = []

    @guard
    def main(argv):
        stop = StopRequest()
        with stop.on_signals():
            found.append(handlers())
        return 0

    before = handlers()
    thread = threading.Thread(target=lambda: found.append(main([])))
    thread.start()
    thread.join()
    assert found == [before, 0]


def test_a_signal_amid_the_restoring_goes_to_the_former_handlers(monkeypatch):
    original, heard, sent = signal.signal, [], []

    def restoring(signum, handler):
        if not sent:
            sent.append(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        return original(signum, handler)

    with on_stop_signals(heard.append), on_stop_signals(lambda signum: pytest.fail("too late")):
        monkeypatch.setattr(signal, "signal", restoring)
    assert heard == sent == [signal.SIGTERM]


def _forked(pipe, worker):
    if worker:
        ignore_stop_signals()
    pipe.send(None)
    pipe.recv()


@pytest.mark.runs
@pytest.mark.parametrize("worker", [False, True])
def test_processes_that_are_forked_off(worker):
    """They inherit the handlers, which are for the main process; workers leave all signals to it."""
    with on_stop_signals(lambda signum: None):
        context = multiprocessing.get_context("fork")
        near, far = context.Pipe()
        process = context.Process(target=_forked, args=(far, worker))
        process.start()
        near.recv()
        os.kill(process.pid, signal.SIGTERM)
        if worker:
            near.send(None)
        process.join(timeout=30)
    assert process.exitcode == (0 if worker else -signal.SIGTERM)
