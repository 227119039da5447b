"""Where and how a run computes: device, precision, compilation and processes."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal, ParamSpec, TypeVar

import torch

from common.errors import RequestError
from engine.device.torchrun import is_distributed
from engine.device.world import SINGLE_PROCESS, World

Compilation = Literal["off", "on", "graphs"]
Placed = TypeVar("Placed", bound=torch.nn.Module)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
# Every run of a group compiles the same lines of code for its own network; the default limit is 8.
MAX_COMPILATIONS = 1024


@dataclass(frozen=True)
class Compute:
    """The device that a run computes on, and how. Only the precision is part of the run's identity.

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
    world: World = SINGLE_PROCESS

    def in_world(self, world: World) -> "Compute":
        """Compute of one of several processes, each on its own device.

        They don't compile: the messages between them would break the graphs.
        """
        if world.size == 1:
            return replace(self, world=world)
        cuda = self.device.type == "cuda"
        device = torch.device("cuda", torch.cuda.current_device()) if cuda else self.device
        return replace(self, world=world, device=device, compilation="off")

    def describe(self) -> dict[str, Any]:
        """Entries for the records of a run."""
        return {"compile": self.compilation, "deterministic": self.deterministic, "processes": self.world.size}

    def autocast(self) -> AbstractContextManager:
        """Context for forward passes: bf16 autocast where that is the precision."""
        enabled = self.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False)

    def place(self, module: Placed) -> Placed:
        """Move a module to the device, convolution weights in channels-last order."""
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # documented, but not typed

    def compiled(self, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """Compile `function` at its first call for each shape of its arguments, if compilation is on."""
        if self.compilation == "off":
            return function
        return torch.compile(function, dynamic=False, mode="reduce-overhead" if self.compilation == "graphs" else None)


def resolve_compute(
    device: str = "auto", precision: str = "auto", compilation: str = "auto", deterministic: bool = False
) -> Compute:
    """Resolve `--device`, `--precision`, `--compile` and `--deterministic` on this machine, and set torch accordingly.

    `auto` takes a CUDA device if available, bf16 if the hardware computes in it, and compiles on CUDA.

    Raises:
        RequestError: the device is missing, or compilation was requested and does not work here.
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
        raise RequestError(f"--device {device}: invalid device; choose auto, cpu, cuda or cuda:N") from None
    if resolved.type not in ("cpu", "cuda"):
        raise RequestError(f"--device {device} is not supported; choose auto, cpu, cuda or cuda:N")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise RequestError(f"--device {device} is missing ({torch.cuda.device_count()} CUDA devices found); try cpu")
    return resolved


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Without these instructions bf16 is emulated on the CPU, and slower than fp32. torch has no public function for it.
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def _resolve_compilation(requested: str, device: torch.device) -> Compilation:
    """On the CPU `auto` does not compile: it takes half a minute for each network and gains a few per cent."""
    compiles = device.type == "cuda" if requested == "auto" else requested != "off"
    if not compiles or is_distributed():  # see `Compute.in_world`; the trial below would use device 0 in all processes
        return "off"
    if requested == "graphs" and device.type != "cuda":
        raise RequestError("--compile graphs replays CUDA graphs, and this is a CPU; choose on or off")
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = MAX_COMPILATIONS
    try:
        torch.compile(torch.square)(torch.ones(8, device=device))
    except Exception as error:  # whatever is missing: a compiler, Triton, a place for its cache
        if requested == "auto":
            return "off"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise RequestError(f"--compile {requested} does not work here: {reason}; choose off") from None
    return "graphs" if requested == "graphs" else "on"
