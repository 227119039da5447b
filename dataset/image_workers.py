"""Processes that work ahead of training, on images. One that dies, fails or falls silent ends the run in one line."""

import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from threading import Event, Timer
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data._utils import signal_handling as alarms

from common.errors import DataError
from common.messages import words_of
from common.signals import ignore_stop_signals
from dataset.image_files import CROP_ATTEMPTS, ImageFiles, middle, part

MOST_WORKERS = 16  # by default; each holds two batches ahead: 1,024 images of 224 px are 154 MB
SHARED_MEMORY = "/dev/shm"
LOOK_SECONDS = 5.0  # between two looks whether the workers live, while a batch is awaited
SILENT_SECONDS = 600.0  # without a batch, after which the workers count as hung: a lost network drive waits for ever
CONTINUE = "the same command continues"

_workers: int | None = None


def set_num_workers(workers: int | None) -> None:
    """Set how many processes decode images from here on: 0 for this process alone, None for one for each core.

    No result depends on it. By default there are at most MOST_WORKERS.
    """
    global _workers
    _workers = workers


def num_workers() -> int:
    """Return how many processes decode images."""
    return min(_own_cores(), MOST_WORKERS) if _workers is None else _workers


def decoded(
    files: ImageFiles, batches: Sequence[torch.Tensor], seeds: Sequence[Sequence[int]] | None, device: torch.device
) -> Iterator[torch.Tensor]:
    """Decode batches of pixels ahead of time, in processes of their own (see `set_num_workers`).

    Batches for which there is no room in shared memory come through pipes.

    Args:
        batches: rows of each batch, int64 B.
        seeds: of the random parts, for each batch one a view; None for the squares in the middle, in one view.

    Yields:
        uint8 views×B×size×size×3 on `device`.

    Raises:
        DataError: a file cannot be decoded, or a process that decodes has ended or hangs.
    """
    work = _Batches(files, batches, seeds)
    for pixels, failed in from_workers(work, len(batches), device.type == "cuda"):
        files.left_out.add(failed)
        yield torch.as_tensor(pixels).to(device, non_blocking=True)


def from_workers(work: Dataset, items: int, pin_memory: bool = False) -> Iterator[Any]:
    """The items of `work` in their order, made ahead of time by `num_workers()` processes; by this one if that is 0.

    Raises:
        DataError: raised by an item itself, or a worker has failed, died, or falls silent.
    """
    if not items:
        return
    workers = min(num_workers(), items)
    if not workers:
        yield from map(_Guarded(work).made, range(items))
        return
    others = set(active_children())
    with _more_than_cores():
        loader = DataLoader(
            _Guarded(work),
            batch_size=None,
            sampler=range(items),
            collate_fn=_as_it_is,
            num_workers=workers,
            pin_memory=pin_memory,
            worker_init_fn=_leave_signals,
            timeout=LOOK_SECONDS,
        )
    try:
        with _without_alarm(), _more_than_cores():
            iterator = iter(loader)
    except (OSError, RuntimeError) as error:
        raise DataError(f"no processes can be started to decode images: {words_of(error)}; {CONTINUE}") from error
    processes = [process for process in active_children() if process not in others]
    try:
        for _ in range(items):
            yield _next(iterator, processes)
        next(iterator, None)  # lets the workers end
    finally:
        del iterator
        for process in processes:
            process.kill()  # stopped or hung, it would keep this process from ending
        for process in processes:
            process.join(timeout=1)


def _next(iterator: Iterator[Any], workers: Sequence[BaseProcess]) -> Any:
    silent = Event()

    def end_silence() -> None:
        silent.set()
        for worker in workers:
            worker.kill()

    # A thread, because to receive a batch is to wait for an answer of the worker, without end if that is stopped.
    alarm = Timer(SILENT_SECONDS, end_silence)
    alarm.daemon = True
    alarm.start()
    try:
        while True:
            try:
                item = next(iterator)
                break
            except Exception as error:
                if silent.is_set() or "DataLoader timed out" not in str(error):
                    raise DataError(f"{_cause(error, workers, silent.is_set())}; {CONTINUE}") from error
    finally:
        alarm.cancel()
    if isinstance(item, DataError):
        raise item
    return item


def _cause(error: Exception, workers: Sequence[BaseProcess], silent: bool) -> str:
    """What is behind an error of the loader."""
    if silent:
        return (
            f"the processes that decode images gave none for {SILENT_SECONDS:g} s and were ended "
            f"(is a network drive away?)"
        )
    ended = wait([worker.sentinel for worker in workers], timeout=1)  # an error may show before the end behind it
    for worker in workers:
        if worker.sentinel in ended:
            worker.join(timeout=1)
    dead = [worker for worker in workers if worker.exitcode]
    return _death(dead[0]) if dead else f"the processes that decode images failed: {words_of(error)}"


def _death(worker: BaseProcess) -> str:
    """Which process has ended, and how."""
    code = worker.exitcode or 0
    try:
        cause = f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        cause = f"ended with code {code}"
    hints = {
        -signal.SIGKILL: " (is memory short? --num_workers 1 takes less)",
        -getattr(signal, "SIGBUS", 0): f" (is {SHARED_MEMORY} full? --num_workers 0 needs none of it)",
    }
    return f"process {worker.pid}, which decodes images, {cause}{hints.get(code, '')}"


@contextmanager
def _without_alarm() -> Iterator[None]:
    """Take back torch's handler, by which a worker's death raises an error in the middle of any step; `_next` looks.

    Another loader of this process may have set it before.
    """
    alarm = getattr(signal, "SIGCHLD", None)
    before = None if alarm is None else signal.getsignal(alarm)
    try:
        yield
    finally:
        if alarm is not None and _is_torchs(signal.getsignal(alarm)):
            signal.signal(alarm, signal.SIG_DFL if before is None or _is_torchs(before) else before)


@contextmanager
def _more_than_cores() -> Iterator[None]:
    """Leave out torch's warning of more workers than cores: the user asked for them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")
        yield


def _is_torchs(handler: object) -> bool:
    return getattr(handler, "__module__", None) == alarms.__name__


def _own_cores() -> int:
    """Number of cores for this process, a share of them where torchrun started several."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # not on macOS
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _leave_signals(worker: int) -> None:
    """Ignore signals that reach all processes of a terminal or a job; the main one ends the workers after it has saved.

    A worker whose parent is gone ends by itself. Pillow's warnings of odd files would fill the terminal.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    ignore_stop_signals()
    for name in ("SIGSEGV", "SIGBUS", "SIGFPE"):  # of which torch prints a line of its own
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


@dataclass
class _Guarded(Dataset):
    """Items of some work, or a DataError where one fails: in a message of its own, without a traceback."""

    work: Dataset

    def __getitem__(self, number: int) -> Any:
        try:
            return self.work[number]
        except DataError as error:
            return error
        except Exception as error:
            return DataError(f"a process that decodes images failed: {words_of(error)}; {CONTINUE}")

    def made(self, number: int) -> Any:
        """An item; raises the DataError of one that fails."""
        item = self[number]
        if isinstance(item, DataError):
            raise item
        return item


@dataclass
class _Batches(Dataset):
    """A worker's work: one item is a whole batch, with the files in whose places others are."""

    files: ImageFiles
    batches: Sequence[torch.Tensor]
    seeds: Sequence[Sequence[int]] | None

    def __getitem__(self, number: int) -> tuple[torch.Tensor | np.ndarray, dict[str, str]]:
        rows, size = self.batches[number].tolist(), self.files.size
        views = None if self.seeds is None else [_draws(seed, len(rows)) for seed in self.seeds[number]]
        pixels = np.empty((len(views) if views else 1, len(rows), size, size, 3), dtype=np.uint8)
        failed: dict[str, str] = {}
        for place, row in enumerate(rows):
            image = self.files.decode_in_place(row, failed)
            seen = [middle(image, size)] if views is None else [part(image, size, v[place]) for v in views]
            pixels[:, place] = np.stack([np.asarray(square) for square in seen])
        return handed_over(pixels), failed


def _as_it_is(item: Any) -> Any:
    return item  # torch's own would make tensors of arrays, for which shared memory may have no room


def handed_over(array: np.ndarray) -> torch.Tensor | np.ndarray:
    """An array on its way from a worker: as a tensor in shared memory, or as it is, for a pipe, if there is no room.

    The queue of the workers would lose a tensor for which there is no room.
    """
    if get_worker_info() is None:
        return array
    try:
        return torch.from_numpy(array).share_memory_()
    except (RuntimeError, OSError):  # the memory is reserved at once, so there is no SIGBUS later
        return array


def _draws(seed: int, images: int) -> list[list[list[float]]]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((images, CROP_ATTEMPTS, 4), generator=generator, dtype=torch.float64).tolist()
