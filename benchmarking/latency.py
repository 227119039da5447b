"""The latency of a student beside that of its teacher: one image, one process, in turns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

from benchmarking.rounds import Settings, TimedStep, Timer

WARMUP = 3  # uncounted rounds


@dataclass(frozen=True)
class Turns:
    """Milliseconds per image in each round.

    Attributes:
        student, teacher: one number a round; the teacher's follows the student's.
    """

    student: tuple[float, ...]
    teacher: tuple[float, ...]

    @property
    def student_ms(self) -> float:
        """The student's median round."""
        return median(self.student)

    @property
    def teacher_ms(self) -> float:
        """The teacher's median round."""
        return median(self.teacher)

    @property
    def ratio(self) -> float:
        """The student's share of the teacher's milliseconds."""
        return self.student_ms / self.teacher_ms


def measure_in_turns(student: nn.Module, teachers: Sequence[nn.Module], image_size: int, rounds: int) -> Turns:
    """Measure predictions of one image on the CPU: a round of the student, one of the teacher, and so on.

    A drift of the machine meets both alike. A round is one image, after an uncounted one: so short that other programs
    interrupt few rounds, which a median leaves out. Several teachers are one after the other, as together they teach.

    Args:
        student, teachers: networks of B×3×H×W images on the CPU.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, image_size, image_size, generator=generator)
    timer = Timer(torch.device("cpu"), Settings(steps=1, rounds=rounds, warmup=WARMUP))
    steps = [
        TimedStep(name, _prediction(networks, image), 1, torch.inference_mode)
        for name, networks in (("student", [student]), ("teacher", teachers))
    ]
    for timed in steps:
        for _ in range(WARMUP):
            timer.round_ms(timed)
    for _ in range(rounds):
        for timed in steps:
            timed.rounds_ms.append(timer.round_ms(timed))
    return Turns(*(tuple(timed.rounds_ms) for timed in steps))


def _prediction(networks: Sequence[nn.Module], image: torch.Tensor) -> Callable[[], None]:
    for network in networks:
        network.eval()

    def step() -> None:
        for network in networks:
            network(image)

    return step
