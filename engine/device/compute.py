"""Where and how a run computes: device, precision, compilation, and which of several processes this one is."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from common.errors import RequestError
from engine.device.processes import ALONE, World, several_processes

Compilation = Literal["off", "on", "graphs"]
# Every member of a group compiles the same lines of code for its own network; the default limit is 8.
MAX_COMPILATIONS = 1024


@dataclass(frozen=True)
class Compute:
    """What a run computes on, and how. None of it but the precision is part of the run's identity.

    Attributes:
        precision: "fp32", or "bf16" for forward passes under autocast, weights and losses in fp32.
        compilation: "off", "on" (torch.compile) or "graphs" (torch.compile that replays CUDA graphs).
        deterministic: whether the same device gives the same bits each time.
        world: the processes that train together.
    """

    device: torch.device
    precision: str
    compilation: Compilation = "off"
    deterministic: bool = False
    world: World = ALONE

    def joined(self, world: World) -> "Compute":
        """The same as one of several processes, each on a device of its own.

        They don't compile: the messages between them would break the graphs.
        """
        if world.size == 1:
            return replace(self, world=world)
        cuda = self.device.type == "cuda"
        device = torch.device("cuda", torch.cuda.current_device()) if cuda else self.device
        return replace(self, world=world, device=device, compilation="off")

    def describe(self) -> dict[str, Any]:
        """What a run's records say of it."""
        return {"compile": self.compilation, "deterministic": self.deterministic, "processes": self.world.size}

    def autocast(self) -> AbstractContextManager:
        enabled = self.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False)

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        """Move a module to the device, convolution weights in channels-last order."""
        return module.to(self.device, memory_format=torch.channels_last)

    def compiled(self, function: Callable) -> Callable:
        """The function, compiled at its first call for each shape of its arguments where compilation is on."""
        if self.compilation == "off":
            return function
        return torch.compile(function, dynamic=False, mode="reduce-overhead" if self.compilation == "graphs" else None)


def resolve_compute(
    device: str = "auto", precision: str = "auto", compilation: str = "auto", deterministic: bool = False
) -> Compute:
    """Turn `--device`, `--precision`, `--compile` and `--deterministic` into what is there, and set torch accordingly.

    `auto` takes a CUDA device where there is one, bf16 where the hardware computes in it, and compiles on CUDA.

    Raises:
        RequestError: a device that is not there; compilation asked for that does not work here.
    """
    resolved = _resolve_device(device)
    if precision == "auto":
        precision = "bf16" if _computes_in_bf16(resolved) else "fp32"
    # Shapes hardly change, so the fastest convolutions are worth looking for; but which one wins may vary.
    torch.backends.cudnn.benchmark = not deterministic
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        # Read when cuBLAS is first used. Without it PyTorch refuses to multiply matrices deterministically.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return Compute(resolved, precision, _resolve_compilation(compilation, resolved), deterministic)


def _resolve_device(device: str) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise RequestError(f"--device {device} is no device; choose auto, cpu, cuda or cuda:N") from None
    if resolved.type not in ("cpu", "cuda"):
        raise RequestError(f"--device {device} is not supported; choose auto, cpu, cuda or cuda:N")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise RequestError(f"--device {device} is not there ({torch.cuda.device_count()} CUDA devices found); try cpu")
    return resolved


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Without the instructions bf16 is emulated on the CPU, and slower than fp32. There is no public question for it.
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def _resolve_compilation(asked: str, device: torch.device) -> Compilation:
    """On the CPU `auto` does not compile: it takes half a minute for each network and gains a few per cent."""
    wanted = ("on" if device.type == "cuda" else "off") if asked == "auto" else asked
    if wanted == "off" or several_processes():  # see `Compute.joined`; the trial below would take device 0 of all
        return "off"
    if wanted == "graphs" and device.type != "cuda":
        raise RequestError("--compile graphs replays CUDA graphs, and this is a CPU; choose on or off")
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = MAX_COMPILATIONS
    try:
        torch.compile(torch.square)(torch.ones(8, device=device))
    except Exception as error:  # whatever is missing: a compiler, Triton, a place for its cache
        if asked == "auto":
            return "off"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise RequestError(f"--compile {asked} does not work here: {reason}; choose off") from None
    return wanted
