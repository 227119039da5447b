"""Plain loop against suite: a pair is measured in all its runs and parts, and its figures become a record."""

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
from benchmarking.plain_loop import PlainCrd, PlainInput, PlainLoop
from benchmarking.rounds import Settings, Step, Subject, Timer
from benchmarking.suite import Suite, any_taught
from dataset import DatasetEntry
from distiller_zoo.crd import CRD
from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.compute import Compute
from engine.training.student_run import StudentRun

INPUT_STEPS = 50  # batches are drawn fast; more than the workers of the plain loop keep ready


@dataclass
class Subjects:
    """All that is timed of a pair.

    Attributes:
        plain, suite: the two sides, by method.
        group: all methods in one process of the suite.
        parts: of a step, by name.
    """

    plain: dict[str, Subject]
    suite: dict[str, Subject]
    group: Subject
    parts: dict[str, Subject]

    def in_turns(self) -> list[Subject]:
        """The two sides of a method directly after one another."""
        sides = [side for name in self.plain for side in (self.plain[name], self.suite[name])]
        return [*sides, self.group, *self.parts.values()]


class Bench:
    """Measures pairs on one data set.

    Args:
        images, labels: of the training set, uint8 N×H×W×3 and int64 N.
        workers: of the plain loop.
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
        """All figures of a pair: the record that JSON holds and tables show."""
        batch_size = pair.recipe.batch_size
        with contextlib.closing(PlainInput(self.images, self.labels, self.entry, batch_size, self.workers)) as source:
            subjects = self._make_subjects(pair, source)
            self.timer.time(subjects.in_turns(), pair.title)
        return make_record(pair, subjects, self.entry.train_size)

    def _make_subjects(self, pair: Candidates, source: PlainInput) -> Subjects:
        plain_teacher = copy.deepcopy(pair.teacher).to(self.compute.device)  # before the suite changes its layout
        suite = Suite(pair, self.images, self.labels, self.entry, self.compute)
        labels = torch.from_numpy(self.labels)
        teacher_bytes = sum(tensor.nbytes for tensor in plain_teacher.state_dict().values())
        plain_runs, suite_runs = {}, {}
        for name, member in pair.members.items():
            held = teacher_bytes if member.plan.teachers else 0
            build = partial(plain_step, member, plain_teacher, source, labels, self.compute.device)
            plain_runs[name] = self.timer.ready(f"{name} plain", build, held, source.at_work, source.settling)
            build = partial(suite.step_alone, member)
            suite_runs[name] = self.timer.ready(f"{name} suite", build, held + suite.data_bytes)
        members = list(pair.members.values())
        if pair.student not in members:
            suite.start(pair.student)
        held = teacher_bytes + suite.data_bytes + sum(run.resident for run in suite_runs.values())
        group = self.timer.ready("group suite", partial(suite.step_of, members), held)
        step_of, steps = suite.part_steps(), self.settings.steps
        parts = {
            "plain_input": Subject("plain input", lambda: next(source), INPUT_STEPS, source.at_work),
            "input": Subject("suite input", step_of["input"], INPUT_STEPS),
            "teacher": Subject("teacher", step_of["teacher"], steps),
            "student": Subject("student", step_of["student"], steps),
        }
        return Subjects(plain_runs, suite_runs, group, parts)


def plain_step(
    member: StudentRun, teacher: InferenceNetwork, source: PlainInput, labels: Tensor, device: torch.device
) -> Step:
    """A step of the plain loop, on copies of what a run of the suite trains that has not started yet."""
    crd = isinstance(member.method, CRD)
    method = PlainCrd(member.pair, member.method, labels) if crd else copy.deepcopy(member.method)
    taught_by = teacher if member.plan.teachers else None
    return PlainLoop(member.plan, copy.deepcopy(member.student), method, taught_by, source, labels, device).step


def make_record(pair: Candidates, subjects: Subjects, train_size: int) -> dict[str, Any]:
    """The figures that follow from the times of a pair.

    Args:
        train_size: images in an epoch.
    """
    whole, rest = divmod(train_size, pair.recipe.batch_size)
    steps_per_epoch = whole + bool(rest and not pair.recipe.drop_last)
    figures = partial(_figures, batch_size=pair.recipe.batch_size, steps_per_epoch=steps_per_epoch)
    plain_sum = sum(run.ms for run in subjects.plain.values())
    return {
        "teacher": pair.teacher_name,
        "student": pair.student_name,
        "recipe": pair.recipe.name,
        "batch_size": pair.recipe.batch_size,
        "steps_per_epoch": steps_per_epoch,
        "left_out": pair.left_out,
        "methods": {
            name: {
                "plain": figures(subjects.plain[name]),
                "suite": figures(subjects.suite[name]),
                "ratio": subjects.plain[name].ms / subjects.suite[name].ms,
                "shares": _shares(subjects.suite[name], [member], subjects.parts),
            }
            for name, member in pair.members.items()
        },
        "group": {
            "methods": list(pair.members),
            "plain_sum_ms": plain_sum,
            "suite": figures(subjects.group),
            "ratio": plain_sum / subjects.group.ms,
            "shares": _shares(subjects.group, list(pair.members.values()), subjects.parts),
        },
        "parts": {name: figures(part) for name, part in subjects.parts.items()},
    }


def _figures(subject: Subject, batch_size: int, steps_per_epoch: int) -> dict[str, Any]:
    return {
        "ms": subject.ms,
        "rounds_ms": subject.rounds_ms,
        "images_per_second": 1000 * batch_size / subject.ms,
        "seconds_per_epoch": subject.ms * steps_per_epoch / 1000,
        "peak_memory_mib": subject.peak_mib,
    }


def _shares(whole: Subject, members: Sequence[StudentRun], parts: dict[str, Subject]) -> dict[str, float]:
    """What each part takes of a step of `members`; what no part explains is the losses'."""
    found = {
        "input": parts["input"].ms,
        "teacher": parts["teacher"].ms if any_taught(members) else 0.0,
        "student": parts["student"].ms * len(members),
    }
    found["losses"] = whole.ms - sum(found.values())
    return {name: ms / whole.ms for name, ms in found.items()}
