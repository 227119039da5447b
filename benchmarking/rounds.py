"""Timing of steps: in rounds, all of them in turns, after steps that are not counted."""

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarking.peak import cuda_peak_bytes
from common.errors import RunError

Step = Callable[[], object]  # does one step; its result is ignored


@dataclass(frozen=True)
class Settings:
    """Amount of measurement: rounds of steps, after `warmup` uncounted steps."""

    steps: int
    rounds: int
    warmup: int

    @property
    def lead(self) -> int:
        """Uncounted steps before each round, which refill the caches."""
        return max(1, self.steps // 10)


DEFAULTS = {"cpu": Settings(steps=3, rounds=3, warmup=1), "cuda": Settings(steps=50, rounds=5, warmup=10)}


@dataclass
class TimedStep:
    """A step with its timings.

    Attributes:
        steps: number of steps in a round.
        context: context manager in which the steps run.
        settling: minimum seconds of uncounted steps before each round.
        rounds_ms: milliseconds per step of each round so far.
        resident: bytes that the step keeps on the device.
        peak_mib: peak memory within a step; None if unknown.
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
        """Milliseconds per step of the best round."""
        return min(self.rounds_ms)


class Memory:
    """Memory of the CUDA device, or of this process on the CPU (on Linux only)."""

    def __init__(self, device: torch.device):
        self.device, self.on_cuda = device, device.type == "cuda"

    def allocated(self) -> int:
        """Bytes allocated on the device; 0 on the CPU."""
        return torch.cuda.memory_allocated(self.device) if self.on_cuda else 0

    def peak_of(self, step: Step) -> int | None:
        """Run a step; return the most bytes in use during it, earlier allocations included. None if unknown."""
        if self.on_cuda:
            return cuda_peak_bytes(step, self.device)
        known = True
        try:
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the current resident size
        except OSError:
            known = False
        step()
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()) if known else None
        return int(found[1]) * 1024 if found else None


class Timer:
    """Warms steps up and times them on a device."""

    def __init__(self, device: torch.device, settings: Settings):
        self.settings, self.memory = settings, Memory(device)

    def ready(
        self,
        name: str,
        build: Callable[[], Step],
        held: int = 0,
        context: Callable[[], AbstractContextManager] = contextlib.nullcontext,
        settling: float = 0.0,
    ) -> TimedStep:
        """Build a step, warm it up and measure its memory.

        Args:
            held: bytes that were on the device before and belong to the step; all others there are not its own.

        Raises:
            RunError: an operation has no deterministic form, and --deterministic was given.
        """
        before = self.memory.allocated()
        timed = TimedStep(name, build(), self.settings.steps, context, settling)
        with context(), _explained_determinism(name):
            for _ in range(self.settings.warmup - 1):
                timed.step()
            peak = self.memory.peak_of(timed.step)
        timed.resident = self.memory.allocated() - before
        if peak is not None:
            of_others = before - held if self.memory.on_cuda else 0
            timed.peak_mib = round((peak - of_others) / 2**20, 1)
        _progress(f"{name}: ready")
        return timed

    def time(self, steps: Sequence[TimedStep], title: str) -> None:
        """Time all steps in turns, round by round, so that a drift of the machine affects all alike."""
        for number in range(1, self.settings.rounds + 1):
            for timed in steps:
                ms = self.round_ms(timed)
                timed.rounds_ms.append(ms)
                _progress(f"{title}  round {number}/{self.settings.rounds}  {timed.name}: {ms:.2f} ms")

    def round_ms(self, timed: TimedStep) -> float:
        """Milliseconds per step of a round."""
        with timed.context():
            self._settle(timed)
            began = time.perf_counter()
            for _ in range(timed.steps):
                timed.step()
            self._wait()
            return 1000 * (time.perf_counter() - began) / timed.steps

    def _settle(self, timed: TimedStep) -> None:
        done, until = 0, time.perf_counter() + timed.settling
        while done < self.settings.lead or time.perf_counter() < until:
            timed.step()
            done += 1
        self._wait()

    def _wait(self) -> None:
        if self.memory.on_cuda:
            torch.cuda.synchronize(self.memory.device)


@contextlib.contextmanager
def _explained_determinism(name: str) -> Iterator[None]:
    """Explain the error of an operation without a deterministic form, which is raised only when it runs."""
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise RunError(f"{name}: {str(error).split('.')[0]}; leave out this method or --deterministic") from None


def _progress(line: str) -> None:
    """Print to stderr, because stdout is for the tables."""
    print(line, file=sys.stderr, flush=True)
