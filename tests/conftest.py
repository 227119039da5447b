import hypothesis
import pytest
import torch

from tests.helpers import save_network

# Two processes that share the cores would otherwise spend their time waiting for each other's threads.
torch.set_num_threads(1)

# The same examples in every run: a test that fails today fails tomorrow.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items):
    """Mark as `fast` what is marked neither `slow` nor `runs`."""
    for item in items:
        if not any(item.iter_markers("slow")) and not any(item.iter_markers("runs")):
            item.add_marker(pytest.mark.fast)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A small network for the digits, with random weights, in a file."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    save_network(path, "resnet8", seed=5)
    return path
