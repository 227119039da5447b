"""Measurement of a pair: plain loop against suite, for every run and every part of a step; makes the record."""

import contextlib
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarking.candidates import Candidates
from benchmarking.plain_loop import PlainInput, PlainLoop
from benchmarking.rounds import Settings, Step, TimedStep, Timer
from benchmarking.suite import Suite, any_taught
from dataset import DatasetEntry
from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.compute import Compute
from engine.training.student_run import StudentRun

INPUT_STEPS = 50  # more batches than the workers of the plain loop prepare ahead


@dataclass
class PairSteps:
    """All timed steps of a pair.

    Attributes:
        plain, suite: steps of the two sides, by method.
        group: step of all methods together in the suite.
        parts: parts of a step, by name.
    """

    plain: dict[str, TimedStep]
    suite: dict[str, TimedStep]
    group: TimedStep
    parts: dict[str, TimedStep]

    def in_turns(self) -> list[TimedStep]:
        """All steps in the order of timing: the two sides of a method directly after each other."""
        sides = [side for name in self.plain for side in (self.plain[name], self.suite[name])]
        return [*sides, self.group, *self.parts.values()]


class Bench:
    """Measures pairs on one data set.

    Args:
        images, labels: training set, uint8 N×H×W×3 and int64 N.
        workers: worker processes of the plain loop.
    """

    def __init__(
        self,
        entry: DatasetEntry,
        images: np.ndarray,
        labels: np.ndarray,
        compute: Compute,
        settings: Settings,
        workers: int,
    ):
        self.entry, self.images, self.labels = entry, images, labels
        self.compute, self.settings, self.workers = compute, settings, workers
        self.timer = Timer(compute.device, settings)

    def measure(self, pair: Candidates) -> dict[str, Any]:
        """Measure a pair; return the record that the JSON file holds and the tables show."""
        batch_size = pair.recipe.batch_size
        with contextlib.closing(PlainInput(self.images, self.labels, self.entry, batch_size, self.workers)) as source:
            steps = self._make_steps(pair, source)
            self.timer.time(steps.in_turns(), pair.title)
        return make_record(pair, steps, self.entry.train_size)

    def _make_steps(self, pair: Candidates, source: PlainInput) -> PairSteps:
        plain_teacher = copy.deepcopy(pair.teacher).to(self.compute.device)  # before the suite changes its layout
        suite = Suite(pair, self.images, self.labels, self.entry, self.compute)
        labels = torch.from_numpy(self.labels)
        teacher_bytes = sum(tensor.nbytes for tensor in plain_teacher.state_dict().values())
        plain: dict[str, TimedStep] = {}
        ours: dict[str, TimedStep] = {}
        for name, run in pair.runs.items():
            held = teacher_bytes if run.plan.teachers else 0
            build = partial(plain_step, run, plain_teacher, source, labels, self.compute.device)
            plain[name] = self.timer.ready(f"{name} plain", build, held, source.at_work, source.settling)
            build = partial(suite.step_alone, run)
            ours[name] = self.timer.ready(f"{name} suite", build, held + suite.data_bytes)
        runs = list(pair.runs.values())
        if pair.student not in runs:
            suite.start(pair.student)
        held = teacher_bytes + suite.data_bytes + sum(timed.resident for timed in ours.values())
        group = self.timer.ready("group suite", partial(suite.step_of, runs), held)
        step_of, steps = suite.part_steps(), self.settings.steps
        parts = {
            "plain_input": TimedStep("plain input", lambda: next(source), INPUT_STEPS, source.at_work),
            "input": TimedStep("suite input", step_of["input"], INPUT_STEPS),
            "teacher": TimedStep("teacher", step_of["teacher"], steps),
            "student": TimedStep("student", step_of["student"], steps),
        }
        return PairSteps(plain, ours, group, parts)


def plain_step(
    run: StudentRun, teacher: InferenceNetwork, source: PlainInput, labels: Tensor, device: torch.device
) -> Step:
    """Step of the plain loop, on copies of the student and method of a run that has not started yet."""
    method = run.method.published_form(run.pair, labels).to(device)
    method.prepare(labels.to(device))
    taught_by = teacher if run.plan.teachers else None
    return PlainLoop(run.plan, copy.deepcopy(run.student), method, taught_by, source, device).step


def make_record(pair: Candidates, steps: PairSteps, train_size: int) -> dict[str, Any]:
    """Record of a pair, from its timed steps.

    Args:
        train_size: images in an epoch.
    """
    whole, rest = divmod(train_size, pair.recipe.batch_size)
    steps_per_epoch = whole + bool(rest and not pair.recipe.drop_last)
    figures = partial(_figures, batch_size=pair.recipe.batch_size, steps_per_epoch=steps_per_epoch)
    plain_sum = sum(timed.ms for timed in steps.plain.values())
    return {
        "teacher": pair.teacher_name,
        "student": pair.student_name,
        "recipe": pair.recipe.name,
        "batch_size": pair.recipe.batch_size,
        "steps_per_epoch": steps_per_epoch,
        "left_out": pair.left_out,
        "methods": {
            name: {
                "plain": figures(steps.plain[name]),
                "suite": figures(steps.suite[name]),
                "ratio": steps.plain[name].ms / steps.suite[name].ms,
                "shares": _shares(steps.suite[name], [run], steps.parts),
            }
            for name, run in pair.runs.items()
        },
        "group": {
            "methods": list(pair.runs),
            "plain_sum_ms": plain_sum,
            "suite": figures(steps.group),
            "ratio": plain_sum / steps.group.ms,
            "shares": _shares(steps.group, list(pair.runs.values()), steps.parts),
        },
        "parts": {name: figures(part) for name, part in steps.parts.items()},
    }


def _figures(timed: TimedStep, batch_size: int, steps_per_epoch: int) -> dict[str, Any]:
    return {
        "ms": timed.ms,
        "rounds_ms": timed.rounds_ms,
        "images_per_second": 1000 * batch_size / timed.ms,
        "seconds_per_epoch": timed.ms * steps_per_epoch / 1000,
        "peak_memory_mib": timed.peak_mib,
    }


def _shares(whole: TimedStep, runs: Sequence[StudentRun], parts: dict[str, TimedStep]) -> dict[str, float]:
    """Share of each part in a step of `runs`; the rest is the share of the losses."""
    shares = {
        "input": parts["input"].ms,
        "teacher": parts["teacher"].ms if any_taught(runs) else 0.0,
        "student": parts["student"].ms * len(runs),
    }
    shares["losses"] = whole.ms - sum(shares.values())
    return {name: ms / whole.ms for name, ms in shares.items()}
