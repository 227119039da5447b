"""Spans of time on a device."""

import time

import pytest
import torch

from engine.device.timer import moment, seconds_of


def test_a_span_on_the_cpu_is_its_length():
    start = moment(torch.device("cpu"))
    time.sleep(0.01)
    assert 0.01 <= seconds_of((start, moment(torch.device("cpu")))) < 5


def test_a_span_between_two_devices_is_refused():
    with pytest.raises(TypeError):
        seconds_of((moment(torch.device("cpu")), "an event"))
