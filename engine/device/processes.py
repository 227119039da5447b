"""The process group of the processes that torchrun started: joining it, and leaving it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from common.command import say
from common.errors import RequestError, RunError
from engine.device.meeting import ADVICE, TIMEOUT, first_line, meet
from engine.device.torchrun import local_processes, torchrun_ranks
from engine.device.world import SINGLE_PROCESS, World


@contextmanager
def process_group(device_type: str) -> Iterator[World]:
    """Join the processes that torchrun started for the length of the block; `SINGLE_PROCESS` without torchrun.

    CPU tensors travel by gloo, CUDA tensors by NCCL; the process's CUDA device is that of its LOCAL_RANK.

    Args:
        device_type: "cpu" or "cuda".

    Raises:
        RequestError: there are more processes than CUDA devices, or they do not find each other.
        RunError: another process ended within the block.
    """
    rank, size, local_rank = torchrun_ranks()
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
    elif (here := local_processes()) > (cores := os.cpu_count() or here):
        say(f"{here} processes share the {cores} cores of this machine, and wait for each other; fewer are faster")
    meeting = meet()
    assert meeting is not None
    try:
        store = meeting.next_round()
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise RequestError(f"rank {rank} cannot join the {size} processes ({first_line(error)}); {ADVICE}") from error
    try:
        yield World(rank, size)
    except RuntimeError as error:
        if not _lost_another(error):
            raise
        raise RunError(
            f"rank {rank}: another of the {size} processes has ended or does not respond ({first_line(error)}); "
            f"its own message says why. The same command continues from the last checkpoints"
        ) from error
    finally:
        # After an error too: the others then end with "connection closed" instead of waiting for this one.
        dist.destroy_process_group()


def _lost_another(error: RuntimeError) -> bool:
    """True if a message could not be exchanged. gloo's errors have no type of their own, but name its source file."""
    return isinstance(error, dist.DistError) or "gloo/" in str(error)
