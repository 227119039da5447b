"""Where and how a run computes: device and precision."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from common.errors import RequestError


@dataclass(frozen=True)
class Compute:
    """A device and a precision ("fp32" or "bf16": forward passes under autocast, weights and losses in fp32)."""

    device: torch.device
    precision: str

    def autocast(self) -> AbstractContextManager:
        enabled = self.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False)

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        """Move a module to the device, convolution weights in channels-last order."""
        return module.to(self.device, memory_format=torch.channels_last)


def resolve_compute(device: str = "auto", precision: str = "auto") -> Compute:
    """Turn `--device` and `--precision` into what is there.

    `auto` takes a CUDA device where there is one, and bf16 where the hardware computes in it.

    Raises:
        RequestError: a device that is not there.
    """
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
    if precision == "auto":
        precision = "bf16" if _computes_in_bf16(resolved) else "fp32"
    return Compute(resolved, precision)


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Without the instructions bf16 is emulated on the CPU, and slower than fp32. There is no public question for it.
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
