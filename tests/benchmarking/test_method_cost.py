"""The cost of each method without the networks."""

import contextlib

import pytest
import torch

from benchmarking.method_cost import MethodCost, PreparedPair
from common.errors import RequestError
from distiller_zoo import METHODS, Method, register_method

PAIR = ("resnet20", "resnet8")


CPU = torch.device("cpu")


def test_peak_is_that_of_the_tensors_that_live_at_once():
    class Hungry(Method):
        def loss(self, student, teacher, batch):
            for _ in range(3):  # one after the other: only one of them lives at a time
                torch.zeros(2**20)
            return student.logits.sum()

    with METHODS.temporarily():
        register_method("hungry")(Hungry)
        cost = MethodCost("hungry", PreparedPair(*PAIR, 2, CPU))
        assert cost.peak_mib(cost.step) == pytest.approx(4, abs=0.1)


PAIRS = [("resnet32x4", "resnet8x4"), ("resnet20", "mixer_nano"), ("resnet20", "deit_nano_distilled")]


@pytest.mark.slow
def test_no_method_needs_a_gibibyte():
    """With its defaults, at batch 64 and CIFAR-100's sizes, in each stage, on the first pair that it accepts."""
    peaks, left = {}, set(METHODS)
    for pair in PAIRS:
        prepared = PreparedPair(*pair, 64, CPU)
        for name in sorted(left):
            with contextlib.suppress(RequestError):
                cost = MethodCost(name, prepared)
                peaks[name] = max(cost.peak_mib(step) for step in cost.steps().values())
        left -= peaks.keys()
    assert left == set()
    assert {name: peak for name, peak in peaks.items() if peak >= 1024} == {}
