"""Time between two points of a device's work.

A call on CUDA returns before its work is done. There a moment is an event in the device's queue, and the time between
two of them is known only after the work.
"""

import time

import torch

Moment = float | torch.cuda.Event
Span = tuple[Moment, Moment]


def moment(device: torch.device) -> Moment:
    """The present on the CPU; the end of all work that is queued so far on CUDA. Does not wait."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def seconds_of(span: Span) -> float:
    """Length of a span; waits for its end.

    Raises:
        TypeError: its moments are of two kinds of device.
    """
    start, end = span
    if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        end.synchronize()
        return start.elapsed_time(end) / 1000
    if isinstance(start, float) and isinstance(end, float):
        return end - start
    raise TypeError("a span lies on one device")
