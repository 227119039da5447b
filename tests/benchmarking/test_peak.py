"""Peak memory of a step."""

import pytest
import torch

from benchmarking.peak import peak_bytes

CPU = torch.device("cpu")


def test_peak_counts_what_autograd_keeps_and_not_what_was_there():
    there = torch.ones(2**18, requires_grad=True)  # 1 MiB
    kept = []

    def step():
        view = there.view(2, -1)  # nothing new
        a = view.exp()  # kept for the backward pass
        b = (a * 2).sin()  # its input is kept, it is not
        kept.append(b.sum())

    assert peak_bytes(step, CPU) == pytest.approx(3 * 2**20, rel=1e-3)  # a, 2a, b
    assert peak_bytes(lambda: kept[0].backward(), CPU) >= 2**20
    assert peak_bytes(lambda: there.view(-1), CPU) == 0
