"""How things are timed: round after round, all of them in turns, after steps that are thrown away."""

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from common.errors import RunError

Step = Callable[[], object]  # does one step; what it returns is of no interest


@dataclass(frozen=True)
class Settings:
    """How much is measured: rounds of steps, after steps that are thrown away."""

    steps: int
    rounds: int
    warmup: int

    @property
    def lead(self) -> int:
        """Steps before each measurement that are thrown away: what came before has left the caches."""
        return max(1, self.steps // 10)


DEFAULTS = {"cpu": Settings(steps=3, rounds=3, warmup=1), "cuda": Settings(steps=50, rounds=5, warmup=10)}


@dataclass
class Subject:
    """One thing that is timed.

    Attributes:
        steps: of a round.
        context: within which its steps run.
        settling: seconds of steps that are thrown away at least before each round.
        resident: bytes that it keeps on the device.
        peak_mib: peak memory within a step; None where that is not known.
    """

    name: str
    step: Step
    steps: int
    context: Callable[[], AbstractContextManager] = contextlib.nullcontext
    settling: float = 0.0
    rounds_ms: list[float] = field(default_factory=list)
    resident: int = 0
    peak_mib: float | None = None

    @property
    def ms(self) -> float:
        return min(self.rounds_ms)


class Memory:
    """Memory of the device for CUDA, of the process for the CPU (where Linux tells it)."""

    def __init__(self, device: torch.device):
        self.device, self.on_cuda = device, device.type == "cuda"

    def allocated(self) -> int:
        """Bytes allocated on the device; 0 on the CPU."""
        return torch.cuda.memory_allocated(self.device) if self.on_cuda else 0

    def peak_of(self, step: Step) -> int | None:
        """Run a step; the most bytes that were in use meanwhile, those from before included."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            step()
            torch.cuda.synchronize(self.device)
            return torch.cuda.max_memory_allocated(self.device)
        known = True
        try:
            Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
        except OSError:
            known = False
        step()
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()) if known else None
        return int(found[1]) * 1024 if found else None


class Timer:
    """Warms subjects up and times them on a device."""

    def __init__(self, device: torch.device, settings: Settings):
        self.settings, self.memory = settings, Memory(device)

    def ready(
        self,
        name: str,
        build: Callable[[], Step],
        held: int = 0,
        context: Callable[[], AbstractContextManager] = contextlib.nullcontext,
        settling: float = 0.0,
    ) -> Subject:
        """Build a step, warm it up and find its memory.

        Args:
            held: bytes on the device from before that it needs too; all others there are not its own.

        Raises:
            RunError: one of its operations cannot be deterministic, and was asked to be.
        """
        before = self.memory.allocated()
        subject = Subject(name, build(), self.settings.steps, context, settling)
        with context(), _explained_determinism(name):
            for _ in range(self.settings.warmup - 1):
                subject.step()
            peak = self.memory.peak_of(subject.step)
        subject.resident = self.memory.allocated() - before
        if peak is not None:
            of_others = before - held if self.memory.on_cuda else 0
            subject.peak_mib = round((peak - of_others) / 2**20, 1)
        _progress(f"{name}: ready")
        return subject

    def time(self, subjects: Sequence[Subject], title: str) -> None:
        """Round after round all subjects, one after the other, so that a drift of the machine hits all alike."""
        for number in range(1, self.settings.rounds + 1):
            for subject in subjects:
                ms = self._round_ms(subject)
                subject.rounds_ms.append(ms)
                _progress(f"{title}  round {number}/{self.settings.rounds}  {subject.name}: {ms:.2f} ms")

    def _round_ms(self, subject: Subject) -> float:
        """Milliseconds per step of a round."""
        with subject.context():
            self._settle(subject)
            began = time.perf_counter()
            for _ in range(subject.steps):
                subject.step()
            self._wait()
            return 1000 * (time.perf_counter() - began) / subject.steps

    def _settle(self, subject: Subject) -> None:
        done, until = 0, time.perf_counter() + subject.settling
        while done < self.settings.lead or time.perf_counter() < until:
            subject.step()
            done += 1
        self._wait()

    def _wait(self) -> None:
        if self.memory.on_cuda:
            torch.cuda.synchronize(self.memory.device)


@contextlib.contextmanager
def _explained_determinism(name: str) -> Iterator[None]:
    """Some operations refuse --deterministic on CUDA, and say so only when they run."""
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise RunError(f"{name}: {str(error).split('.')[0]}; leave out this method or --deterministic") from None


def _progress(line: str) -> None:
    """Goes to stderr, so that stdout holds the tables alone."""
    print(line, file=sys.stderr, flush=True)
