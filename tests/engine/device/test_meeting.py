"""Processes that find each other, and those that are named because they are missing."""

import socket
import threading

import pytest
import torch.distributed as dist

from common.errors import RequestError
from engine.device import meeting as meeting_module
from engine.device.meeting import Meeting, meet
from tests.engine.device.test_processes import environment


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    monkeypatch.setattr(meeting_module, "ARRIVAL_SECONDS", 0.3)
    monkeypatch.setattr(meeting_module, "LOOK_SECONDS", 0.01)
    meeting_module._meeting.cache_clear()
    yield
    meeting_module._meeting.cache_clear()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def place(monkeypatch, rank, size, port, address="127.0.0.1"):
    ranks = {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": "0"}
    environment(monkeypatch, **ranks, MASTER_ADDR=address, MASTER_PORT=port)


def test_missing_ranks_are_named(monkeypatch):
    store = dist.HashStore()
    store.set("arrived/2", "")
    with pytest.raises(RequestError, match="ranks 0, 3 of 4") as refused:
        Meeting(store, 1, 4).wait_for_all("arrived", 0.05)
    assert "torchrun" in str(refused.value)


def test_who_is_waited_for_is_said(monkeypatch, capsys):
    """Some may be fetching a teacher, which takes as long as it takes."""
    monkeypatch.setattr(meeting_module, "REPORT_SECONDS", 0.05)
    meeting = Meeting(dist.HashStore(), 0, 2)
    timer = threading.Timer(0.3, lambda: meeting.store.set("ready 1/1", ""))
    timer.start()
    meeting.next_round()
    timer.join()
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all("rank 1 of 2" in line for line in lines)


def test_the_one_that_serves_the_store_names_the_others(monkeypatch):
    place(monkeypatch, 0, 2, free_port())
    with pytest.raises(RequestError, match="rank 1 of 2"):
        meet()


def test_a_port_in_use(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        place(monkeypatch, 0, 2, port)
        with pytest.raises(RequestError, match=f"{port}.*MASTER_PORT"):
            meet()


def test_a_stranger_at_the_port(monkeypatch):
    """It takes the connection and says nothing."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        place(monkeypatch, 1, 2, str(stranger.getsockname()[1]))
        with pytest.raises(RequestError, match=r"rank 1 of 2.*torchrun"):
            meet()


@pytest.mark.parametrize(
    ("address", "port"), [("127.0.0.1", None), ("", "1"), ("127.0.0.1", "65536"), ("127.0.0.1", "-1"), ("::", "none")]
)
def test_no_way_to_rank_0(address, port, monkeypatch):
    place(monkeypatch, 1, 2, free_port() if port is None else port, address)
    with pytest.raises(RequestError, match=r"rank 1 of 2.*torchrun"):
        meet()


def test_alone_nobody_is_waited_for(monkeypatch):
    place(monkeypatch, 0, 1, free_port())
    assert meet() is None
