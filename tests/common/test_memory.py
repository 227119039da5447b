"""Memory: what there is, and what modules take."""

import torch
from torch import nn

from common.memory import gibibytes, memory_bytes, tensor_bytes


def test_what_there_is():
    available = memory_bytes()
    assert available is None or available > 2**28


def test_what_modules_take():
    norm = nn.BatchNorm1d(4)  # two parameters and two means of 4 floats, and one int64
    assert tensor_bytes(norm) == 4 * 4 * 4 + 8
    with torch.device("meta"):
        assert tensor_bytes(nn.Linear(10**6, 10**6, bias=False), norm) == 4 * 10**12 + 72


def test_in_words():
    assert gibibytes(3 * 2**29) == "1.5 GiB"
