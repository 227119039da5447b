"""What a run costs beside time: parameters and memory."""

import torch
from torch import nn


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def forget_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_mib` begin anew where it can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mib(device: torch.device) -> float:
    """Most memory used: of the device for CUDA, since `forget_peak_memory`; of the process for the CPU, ever."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    import resource  # not there on Windows

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)
