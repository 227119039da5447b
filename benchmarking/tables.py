"""Markdown of a benchmark: the machine, the tables of a pair's record, and their legend."""

from typing import Any

from tabulate import tabulate

from benchmarking.bench import INPUT_STEPS
from benchmarking.rounds import Settings

LEGEND = """
**plain**: the loop of published repositories (benchmarking/plain_loop.py): PIL images, a DataLoader with {workers}
worker processes, fp32, contiguous tensors, the teacher's whole pass in every run, an unfused optimizer, loss and
top-1/top-5 read back after every step, cuDNN's autotuning on. The losses are the suite's own, but for methods whose
published code computes them in another way (CRD gathers its vectors). In its favour: workers start only once, and
CRD's negatives are drawn on the device.
**suite**: the engine's own input, teacher pass and step. Both sides train the same networks from the same weights on
the same images, in full batches.
**ms**: per step, the best of {rounds} rounds of {steps} steps (input alone: {input_steps}); plain and suite take turns.
Not counted: {warmup} step(s) at first, and at least {lead} before each round.
**s/epoch**: training only. **images/s**: of the batch; each trains all students of a group.
**group**: all methods in one process with one teacher pass for a batch, against the sum of the plain loops.
**MiB**: {memory}
**Shares** of the suite's step: input, teacher and student (the step of `none`) are measured alone; `losses` is the
rest, with the methods' own modules. On CUDA, parts that overlap count in full, so the rest may be negative.
"""
MEMORY = {
    "cuda": "peak memory of the device that the run takes alone; on the suite's side the data set lies there too.",
    "cpu": "peak resident memory of this process within a step, its workers not counted. It holds all runs at once,\n"
    "so only differences within a table tell.",
}


def heading(environment: dict[str, Any]) -> str:
    """One line that describes the machine."""
    device = "" if environment["device"] == "cpu" else f"{environment['device']}, "
    return (
        f"{device}{environment['processor']} ({environment['cores']} cores), {environment['threads']} threads, "
        f"torch {environment['torch']}"
    )


def tables(record: dict[str, Any]) -> str:
    """Three tables of a pair, and the methods that were left out."""
    left_out = [f"left out: {name}: {reason}" for name, reason in record["left_out"].items()]
    return "\n\n".join([_steps(record), _shares(record), _inputs(record), *left_out])


def legend(settings: Settings, workers: int, device: str) -> str:
    """Legend of the tables; `device` is "cpu" or "cuda"."""
    return LEGEND.format(
        workers=workers,
        rounds=settings.rounds,
        steps=settings.steps,
        input_steps=INPUT_STEPS,
        warmup=settings.warmup,
        lead=settings.lead,
        memory=MEMORY[device],
    )


def _steps(record: dict[str, Any]) -> str:
    group = record["group"]
    headers = ["method", "plain ms", "plain s/epoch", "plain MiB", "suite ms", "suite s/epoch", "suite MiB",
               "suite images/s", "plain/suite"]  # fmt: skip
    rows = [
        [name, *_cost(method["plain"]), *_suite_cost(method["suite"]), method["ratio"]]
        for name, method in record["methods"].items()
    ]
    plain_ms = group["plain_sum_ms"]
    plain = [plain_ms, plain_ms * record["steps_per_epoch"] / 1000, None]
    rows.append([_group_name(group), *plain, *_suite_cost(group["suite"]), group["ratio"]])
    return table(headers, rows)


def _shares(record: dict[str, Any]) -> str:
    group = record["group"]
    rows = [(name, method["shares"]) for name, method in record["methods"].items()]
    rows.append((_group_name(group), group["shares"]))
    cells = [[name, *(f"{100 * share:.0f} %" for share in shares.values())] for name, shares in rows]
    return table(["share of the suite's step", *group["shares"]], cells)


def _inputs(record: dict[str, Any]) -> str:
    sides = {"plain": record["parts"]["plain_input"], "suite": record["parts"]["input"]}
    rows = [[side, part["ms"], part["images_per_second"], part["seconds_per_epoch"]] for side, part in sides.items()]
    return table(["input alone", "ms", "images/s", "s/epoch"], rows)


def _group_name(group: dict[str, Any]) -> str:
    return f"group of {len(group['methods'])}"


def _cost(figures: dict[str, Any]) -> list[float | None]:
    return [figures["ms"], figures["seconds_per_epoch"], figures["peak_memory_mib"]]


def _suite_cost(figures: dict[str, Any]) -> list[float | None]:
    return [*_cost(figures), figures["images_per_second"]]


def table(headers: list[str], rows: list[list[Any]]) -> str:
    """Markdown table with names aligned left and numbers right."""
    cells = [[cell(value) for value in row] for row in rows]
    alignment = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(cells, headers, tablefmt="pipe", disable_numparse=True, colalign=alignment)


def cell(value: float | str | None) -> str:
    """Format a number with two decimals below 100 and none above; None is an empty cell."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"
