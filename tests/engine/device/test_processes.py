"""Joining the processes that torchrun started, leaving them, and what is refused."""

import os

import pytest
import torch
import torch.distributed as dist

from common.errors import RequestError
from engine.device.processes import process_group
from engine.device.world import World
from tests.engine.device.ranks import run


def fail_on_last_rank(world, die):
    if world.rank == world.size - 1:
        if die:
            os._exit(7)
        raise ArithmeticError("on purpose")
    world.any(False)


@pytest.mark.runs
@pytest.mark.parametrize(("die", "said"), [(False, "ArithmeticError: on purpose"), (True, "died with exit code 7")])
def test_failure_of_one_rank_ends_all(die, said):
    with pytest.raises(pytest.fail.Exception) as failure:
        run(2, fail_on_last_rank, die)
    assert f"rank 1: {'died' if die else 'Traceback'}" in str(failure.value)
    assert said in str(failure.value)
    assert "did not end" not in str(failure.value)


def environment(monkeypatch, **values):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "values", [{"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, {"RANK": "0", "WORLD_SIZE": "2"}]
)
def test_one_process_or_another_starter_is_alone(values, monkeypatch):
    environment(monkeypatch, **values)
    with process_group("cpu") as world:
        assert world == World()
        assert not dist.is_initialized()


REFUSALS = [
    ("cpu", {"RANK": "one", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "RANK=one, WORLD_SIZE=2"),
    ("cpu", {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "torchrun"),  # no MASTER_ADDR
    ("cuda", {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "--nproc_per_node 1"),
]


@pytest.mark.parametrize(("device", "values", "said"), REFUSALS)
def test_refusals(device, values, said, monkeypatch):
    environment(monkeypatch, **values)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RequestError, match=said), process_group(device):
        pass
    assert not dist.is_initialized()
