"""Runs a check in several processes that have joined as under torchrun."""

import multiprocessing
import os
import time
import traceback
from contextlib import suppress

import pytest
import torch
import torch.distributed as dist

from engine.device.processes import process_group
from engine.device.world import World

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
# Pieces of three processes are unequal for most batches, and float64 leaves rounding no room.
two = pytest.param(2, marks=pytest.mark.slow)
single = pytest.param(torch.float32, id="float32", marks=pytest.mark.slow)
sizes = pytest.mark.parametrize("size", [two, 3])
dtypes = pytest.mark.parametrize("dtype", [pytest.param(torch.float64, id="float64"), single])


def run(size, check, *arguments, seconds=60):
    """`check(world, *arguments)` in `size` processes; fails with the tracebacks of the ranks where it does."""
    # The server imports torch once and forks every process from there, which takes no time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "engine.device.sync_batchnorm"])
    # As under torchrun the starter holds the store in which the processes meet; port 0 is any that is free.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes, pipes = [], []
    try:
        for rank in range(size):
            pipe, far_end = context.Pipe()
            process = context.Process(target=_rank, args=(far_end, rank, size, store.port, check, arguments))
            process.start()
            far_end.close()
            processes.append(process)
            pipes.append(pipe)
        deadline = time.monotonic() + seconds
        reports = [_report(*pair, deadline) for pair in zip(processes, pipes, strict=True)]
    finally:
        for process in processes:
            process.kill()
            process.join()
    failed = [f"rank {rank}: {report}" for rank, report in enumerate(reports) if report]
    if failed:
        pytest.fail("\n".join(failed), pytrace=False)


def _report(process, pipe, deadline):
    if not pipe.poll(max(0, deadline - time.monotonic())):
        return "did not end"
    with suppress(EOFError):
        return pipe.recv()
    process.join()
    return f"died with exit code {process.exitcode}"


def _rank(pipe, rank, size, port, check, arguments):
    """One process: the environment that torchrun would give it, the check, and a report of how it went."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    report = None
    try:
        with process_group("cpu") as world:
            assert world == World(rank, size)
            check(world, *arguments)
    except BaseException:
        report = traceback.format_exc()
    assert not dist.is_initialized()  # left on success and on failure
    pipe.send(report)
