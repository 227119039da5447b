"""Reads what scripts/measure_latency.py left in a run's folder."""

from dataclasses import dataclass
from pathlib import Path

from common.json_files import BrokenError, printable, read_object
from common.messages import counted
from reporting.records.untrusted_json import cost_or_none

LATENCY = "latency.json"
FORMAT = 1


@dataclass(frozen=True)
class Latency:
    """Milliseconds that one image takes a student and its teacher, measured in turns on one machine.

    Attributes:
        ratio: the student's share of the teacher's.
        teacher: names of the teacher's networks, sorted and joined by "+".
        hardware: the processor and the number of threads.
    """

    ratio: float
    student_ms: float
    teacher_ms: float
    teacher: str
    hardware: str


def read_latency(folder: Path) -> Latency | None:
    """Returns the latency on record in a run's folder; None where there is none that can be read."""
    try:
        content = read_object(folder / LATENCY)
    except BrokenError:
        return None
    student, teacher = cost_or_none(content.get("student_ms")), cost_or_none(content.get("teacher_ms"))
    processor, threads, teachers = (content.get(name) for name in ("processor", "threads", "teachers"))
    names = [each.get("model") for each in teachers if isinstance(each, dict)] if isinstance(teachers, list) else []
    if content.get("format") != FORMAT or student is None or teacher is None:
        return None
    if not isinstance(processor, str) or not isinstance(threads, int) or isinstance(threads, bool):
        return None
    if not names or not all(isinstance(name, str) for name in names):
        return None
    hardware = f"{printable(processor).replace(';', ',')}, {counted(threads, 'thread')}"
    return Latency(student / teacher, student, teacher, printable("+".join(sorted(map(str, names)))), hardware)
