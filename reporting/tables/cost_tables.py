"""Tables of what the runs of a pair cost, one for each kind of hardware: costs of different hardware do not compare."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reporting.tables.columns import SIZES
from reporting.tables.numbers import number
from reporting.tables.student_costs import cost_columns
from reporting.tables.text_table import TextTable, without_empty_columns
from reporting.tables.wording import NAMES, pair_title, short_name

MIXED_HARDWARE = "Trials were measured on several kinds of hardware, so no cost is given of"


def cost_tables(heading: str, pair: pd.DataFrame) -> Iterator[TextTable]:
    """Yields what the runs of a pair cost, a table for each kind of hardware: their costs do not compare.

    Methods whose trials were measured on several kinds have no cost; they are named in the last note.
    """
    title = f"{pair_title(pair.teacher.iloc[0], pair.student.iloc[0])}: cost"
    parts, mixed = costs_by_hardware(pair)
    for number_of, (hardware, measured) in enumerate(parts, 1):
        cells = pd.DataFrame([_cost_cells(row) for row in measured.itertuples()])
        notes = [f"Measured on {hardware}."] if hardware else []
        if measured[[*SIZES, "latency_ratio"]].notna().any(axis=None):  # tables of older records stay as they are
            columns, where = cost_columns(measured)
            cells = cells.assign(**columns)
            notes += [where] if where else []
        if mixed and number_of == len(parts):
            notes.append(f"{MIXED_HARDWARE}: {', '.join(mixed)}.")
        title_of_part = title + (f" on {hardware}" if len(parts) > 1 else "")
        yield TextTable(heading, title_of_part, without_empty_columns(cells), note=" ".join(notes))


def costs_by_hardware(pair: pd.DataFrame) -> tuple[list[tuple[str, pd.DataFrame]], list[str]]:
    """Returns the rows with costs by their hardware, and the names of those that were measured on several kinds."""
    measured = pair[(pair.role != "teacher") & pair[["seconds_per_epoch", "peak_memory_mib"]].notna().any(axis=1)]
    mixed = measured.hardware.str.contains("; ", regex=False)
    parts = [(str(hardware), rows) for hardware, rows in measured[~mixed].groupby("hardware", sort=True)]
    names = measured.method.mask(measured.role == "student", NAMES["student"])
    return parts, [short_name(str(name)) for name in names[mixed]]


def _cost_cells(row: Any) -> dict[str, str]:
    return {
        "method": NAMES.get(row.role, row.method),
        "s/epoch": number(row.seconds_per_epoch, 1 if row.seconds_per_epoch >= 10 else 2),
        "initial s": number(row.initial_seconds, 0),
        "images/s": number(row.images_per_second, 0),
        "peak MiB": number(row.peak_memory_mib, 0),
        "extra parameters": "" if pd.isna(row.method_parameters) else f"{row.method_parameters:,}",
    }
