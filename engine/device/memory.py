"""Peak memory of a run."""

import torch


def reset_peak_memory(device: torch.device) -> None:
    """Start the measurement of `peak_memory_mib` anew; on the CPU it covers the whole process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory in MiB: of the device since `reset_peak_memory` on CUDA, else of the process since its start."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    import resource  # missing on Windows

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)
