"""Worker processes that die, fail, hang or get a job's signals."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import active_children

import pytest
import torch
from torch.utils.data import Dataset

from common.errors import DataError
from common.signals import STOP_SIGNALS
from dataset import DATASETS
from dataset import image_workers as module
from dataset.image_workers import from_workers
from tests.dataset.photographs import NAME, photograph
from tests.helpers import ROOT

ITEMS = 12
BAD = 7


class Work(Dataset):
    """Numbers; `act` is called before one of them is given."""

    def __init__(self, act):
        self.act = act

    def __getitem__(self, number):
        if number == BAD:
            self.act()
        return torch.tensor(number)


def fail(error):
    raise error


@pytest.fixture(autouse=True)
def short_looks(monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(module, "SILENT_SECONDS", 1.0)


ENDS = [
    (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    (lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"),
    (lambda: os.kill(os.getpid(), signal.SIGBUS), "/dev/shm"),
    (lambda: os._exit(3), "code 3"),
    (lambda: fail(MemoryError()), "MemoryError"),
    (lambda: fail(RuntimeError("first\nsecond")), "RuntimeError: first"),
    (lambda: fail(DataError("its own words")), "its own words"),
    (lambda: os.kill(os.getpid(), signal.SIGSTOP), "1 s"),
    (lambda: time.sleep(60), "1 s"),
]


@pytest.mark.parametrize(("act", "named"), ENDS, ids=[named for _, named in ENDS])
def test_any_end_of_a_worker_is_one_error_of_the_data(act, named):
    handler, seen, items = signal.getsignal(signal.SIGCHLD), [], from_workers(Work(act), ITEMS)

    def read():
        while True:
            seen.append(next(items).item())
            time.sleep(0.01)  # a death meanwhile must not show here, in the middle of a step

    with pytest.raises(DataError) as end:
        read()
    assert named in str(end.value)
    assert seen == list(range(len(seen)))  # what a dead worker had ready may be lost
    assert len(seen) <= BAD
    assert active_children() == []
    assert signal.getsignal(signal.SIGCHLD) == handler


@pytest.mark.parametrize("signum", STOP_SIGNALS)
def test_signals_to_the_whole_job_end_no_worker(signum):
    items = from_workers(Work(lambda: os.kill(os.getpid(), signum)), ITEMS)
    assert [item.item() for item in items] == list(range(ITEMS))
    assert active_children() == []


def test_a_reader_that_stops_early_leaves_no_process(monkeypatch):
    items = from_workers(Work(lambda: None), ITEMS)
    assert next(items).item() == 0
    items.close()
    assert active_children() == []


def test_nothing_to_do():
    assert list(from_workers(Work(lambda: None), 0)) == []


def test_the_alarm_that_another_loader_has_set_is_taken_back():
    """It would raise an error of torch's in the middle of any step when a worker dies."""

    def alarm(signum, frame):
        raise RuntimeError("a worker has died")

    alarm.__module__ = module.alarms.__name__
    before = signal.signal(signal.SIGCHLD, alarm)
    try:
        with pytest.raises(DataError, match="SIGKILL"):
            list(from_workers(Work(lambda: os.kill(os.getpid(), signal.SIGKILL)), ITEMS))
        assert signal.getsignal(signal.SIGCHLD) is not alarm
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_the_callers_own_handler_stays():
    def own(signum, frame):
        pass

    before = signal.signal(signal.SIGCHLD, own)
    try:
        assert len(list(from_workers(Work(lambda: None), ITEMS))) == ITEMS
        assert signal.getsignal(signal.SIGCHLD) is own
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.fixture
def workers():
    """`set_num_workers`, taken back after the test."""
    yield module.set_num_workers
    module.set_num_workers(None)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_their_number_changes_no_bit(pictures, workers, number):
    files = DATASETS.find(NAME, pictures).load(pictures).train_images
    batches = [torch.arange(0, 5), torch.arange(5, 10), torch.arange(10, 12)]
    seeds = [[1, 2], [3, 4], [5, 6]]
    expected = list(module.decoded(files, batches, seeds, torch.device("cpu")))
    workers(number)
    before = active_children()
    stream = module.decoded(files, batches, seeds, torch.device("cpu"))
    found = [next(stream)]
    assert len(set(active_children()) - set(before)) == number
    found += stream
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_without_workers_errors_are_the_same(workers):
    workers(0)
    for act, named in ENDS[4:7]:
        with pytest.raises(DataError, match=named):
            list(from_workers(Work(act), ITEMS))


@pytest.mark.slow
@pytest.mark.parametrize("size", ["64m", "1m"])
def test_little_shared_memory(tmp_path, size):
    """As containers have it: batches of 19 MB come all the same, and are those of one process."""
    script = f"mount -t tmpfs -o size={size} tmpfs /dev/shm && {sys.executable} - {tmp_path}"
    command = ["unshare", "-m", "sh", "-c", script]
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True).returncode:
        pytest.skip("no right to mount")
    for number in range(8):
        photograph(tmp_path / f"{number}.png", number, (30, 40), (0, 0, 0))
    done = subprocess.run(command, input=SHORT_OF_MEMORY, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "6 True\n"), done.stderr


SHORT_OF_MEMORY = """
import os, sys
from pathlib import Path
import numpy as np, torch
from dataset.image_files import ImageFiles
from dataset.image_workers import decoded, set_num_workers

names = np.array([os.fsencode(f"{number}.png") for number in range(8)])
batches = [torch.arange(128) % 8] * 6

def read(workers):
    set_num_workers(workers)
    return list(decoded(ImageFiles(Path(sys.argv[1]), names, 224), batches, None, torch.device("cpu")))

many, one = read(2), read(0)
print(len(many), all(torch.equal(a, b) for a, b in zip(many, one)))
"""
