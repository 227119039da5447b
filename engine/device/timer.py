"""When something happened on a device. A call on CUDA returns before its work is done, so there a moment is a mark in
the device's queue, and how long lies between two is known only after the work."""

import time

import torch

Moment = float | torch.cuda.Event
Span = tuple[Moment, Moment]


def moment(device: torch.device) -> Moment:
    """Now, for the CPU; when all work that is queued so far will be done, for CUDA. Waits for nothing."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def seconds_of(span: Span) -> float:
    """How long a span took; waits for its end."""
    start, end = span
    if isinstance(end, torch.cuda.Event):
        end.synchronize()
        return start.elapsed_time(end) / 1000
    return end - start
