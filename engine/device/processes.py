"""Processes that torchrun started: whether there are any, and how they join."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from common.errors import RequestError
from engine.device.world import SINGLE_PROCESS, World

# Long enough for rank 0 to fetch a data set while the others wait.
TIMEOUT = timedelta(minutes=30)


@contextmanager
def process_group(device_type: str) -> Iterator[World]:
    """Join the processes that torchrun started for the length of the block; `SINGLE_PROCESS` without torchrun.

    CPU tensors travel by gloo, CUDA tensors by NCCL; the process's CUDA device is that of its LOCAL_RANK.

    Args:
        device_type: "cpu" or "cuda".

    Raises:
        RequestError: there are more processes than CUDA devices, or they do not find each other.
    """
    rank, size, local_rank = _torchrun_ranks()
    if size == 1:
        yield SINGLE_PROCESS
        return
    backend = "gloo"
    if device_type == "cuda":
        devices = torch.cuda.device_count()
        if local_rank >= devices:
            raise RequestError(
                f"torchrun started process {local_rank + 1} on a machine with {devices} CUDA devices; "
                f"give it --nproc_per_node {devices}, or add --device cpu to the script"
            )
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RequestError(
            f"rank {rank} cannot join the {size} processes ({reason}); start them all with torchrun"
        ) from error
    try:
        yield World(rank, size)
    finally:
        # After an error too: the others then end with "connection closed" instead of waiting for this one.
        dist.destroy_process_group()


def is_distributed() -> bool:
    """True if torchrun started this process as one of several.

    Raises:
        RequestError: torchrun's environment variables are set to something else than numbers.
    """
    return _torchrun_ranks()[1] > 1


def _torchrun_ranks() -> tuple[int, int, int]:
    """RANK, WORLD_SIZE and LOCAL_RANK as torchrun sets them; a process that lacks one of them is on its own.

    Some clusters set the first two themselves, for machines rather than processes.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    values = [os.environ.get(name, "") for name in names]
    if "" in values:
        return 0, 1, 0
    try:
        rank, size, local_rank = map(int, values)
    except ValueError:
        given = ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        raise RequestError(f"{given} must be whole numbers; start with torchrun or unset them") from None
    return rank, size, local_rank
