"""Latency in turns: who predicts when, on how many images, and which figures come of it."""

import itertools

import torch
from torch import nn

from benchmarking import rounds
from benchmarking.latency import Turns, measure_in_turns


class Slow(nn.Module):
    """A network that takes so many ticks of a fake clock, and notes that it was called."""

    def __init__(self, name, ticks, calls, clock):
        super().__init__()
        self.name, self.ticks, self.calls, self.clock = name, ticks, calls, clock

    def forward(self, x):
        assert x.shape == (1, 3, 8, 8)
        assert not torch.is_grad_enabled()
        assert not self.training
        self.calls.append(self.name)
        self.clock[0] += self.ticks
        return x


def measured(monkeypatch, student_ms, *teachers_ms, count=5):
    clock, calls = [0.0], []
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: clock[0])
    student = Slow("s", student_ms / 1000, calls, clock)
    teachers = [Slow(f"t{i}", ms / 1000, calls, clock) for i, ms in enumerate(teachers_ms)]
    return measure_in_turns(student, teachers, 8, count), calls


def test_student_and_teacher_take_turns(monkeypatch):
    turns, calls = measured(monkeypatch, 30.0, 60.0)
    assert abs(turns.student_ms - 30.0) < 1e-9
    assert abs(turns.ratio - 0.5) < 1e-9
    assert (len(turns.student), len(turns.teacher)) == (5, 5)
    timed = [name for name, _ in itertools.groupby(calls)][2:]  # after each has warmed up
    assert timed == ["s", "t0"] * 5


def test_several_teachers_count_together(monkeypatch):
    turns, _ = measured(monkeypatch, 30.0, 60.0, 40.0)
    assert abs(turns.teacher_ms - 100.0) < 1e-9


def test_the_median_round_counts():
    turns = Turns((1.0, 1.0, 50.0), (4.0, 2.0, 3.0))
    assert (turns.student_ms, turns.teacher_ms) == (1.0, 3.0)
    assert turns.ratio == 1 / 3
