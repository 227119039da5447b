"""What holds for all tests: one thread, the same examples every time, tiers, and memory that is given back."""

import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from tests.helpers import save_network

# Two processes that share the cores would otherwise spend their time waiting for each other's threads.
torch.set_num_threads(1)

# The same examples in every run: a test that fails today fails tomorrow.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `fast` what is marked neither `slow` nor `runs`."""
    for item in items:
        if not any(item.iter_markers("slow")) and not any(item.iter_markers("runs")):
            item.add_marker(pytest.mark.fast)


def pytest_collection_finish() -> None:
    """Leave out of later garbage collections what has been imported: it is much, and it stays."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def returned_memory() -> Iterator[None]:
    """Return the memory of a module's tests to the system: freed tensors would stay with a process of many modules."""
    yield
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc
        trim(0)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network for the digits, with random weights, in a file."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    save_network(path, "resnet8", seed=5)
    return path
