"""What a student costs where it is used: parameters, multiply-accumulates, file size and latency."""

from dataclasses import dataclass

import pandas as pd

from reporting.tables.cost_names import COST_NAMES
from reporting.tables.numbers import number

DECIMALS = ((10, 1), (0.1, 2), (0.01, 3))  # of figures from so much on


@dataclass(frozen=True)
class StudentCost:
    """One of the costs.

    Attributes:
        column: of the tidy table.
        heading: of the column in tables for people.
        noun: as a sentence has it.
        axis: name of an axis.
        unit: behind a figure in a sentence.
        divisor: by which the column's value is divided to be in that unit.
        whole: whether tables show the value undivided, as a whole number.
        decimals: to which values are compared; None where they are exact.
        hint: what to do where it is on no record.
    """

    column: str
    heading: str
    noun: str
    axis: str
    unit: str
    divisor: float
    whole: bool = False
    decimals: int | None = None
    hint: str = "runs of earlier versions do not have it; choose another cost, such as parameters"

    def of(self, rows: pd.DataFrame) -> pd.Series:
        """Returns the cost of rows of the tidy table as it is compared; NaN where it is not known."""
        values = rows[self.column].astype(float)
        return values if self.decimals is None else values.round(self.decimals)

    def cell(self, value: float) -> str:
        """Returns the cell of a table; "" where the cost is not known."""
        return number(value, 0) if self.whole else self._in_unit(value)

    def words(self, value: float) -> str:
        """Returns the cost for a sentence, such as "0.27 M parameters"."""
        return f"{self._in_unit(value)} {self.unit}"

    def _in_unit(self, value: float) -> str:
        if pd.isna(value):
            return ""
        scaled = float(value) / self.divisor
        return number(scaled, next((decimals for least, decimals in DECIMALS if scaled >= least), 4))


COSTS = dict(
    zip(
        COST_NAMES,
        (
            StudentCost("parameters", "parameters", "parameters", "parameters (M)", "M parameters", 1e6, whole=True),
            StudentCost(
                "macs", "MACs (M)", "multiply-accumulates", "multiply-accumulates (M)", "M multiply-accumulates", 1e6
            ),
            StudentCost("file_bytes", "file (MB)", "file size", "weights file (MB)", "MB of weights file", 1e6),
            StudentCost(
                "latency_ratio",
                "latency ×teacher",
                "latency",
                "latency (× the teacher's)",
                "× the teacher's latency",
                1.0,
                decimals=2,  # a measurement, which repeats no better
                hint="measure it: python scripts/measure_latency.py FOLDER",
            ),
        ),
        strict=True,
    )
)


def cost_columns(rows: pd.DataFrame) -> tuple[dict[str, list[str]], str]:
    """Returns columns of costs for a table, and a note on where latencies were measured; "" without any.

    Latencies of different hardware do not compare and have a column each.

    Args:
        rows: of the tidy table.
    """
    columns = {cost.heading: [cost.cell(value) for value in rows[cost.column]] for cost in list(COSTS.values())[:3]}
    latency, places = COSTS["latency"], latency_places(rows)
    for place, of_place in places.items():
        heading = latency.heading if len(places) == 1 else f"{latency.heading} [{list(places).index(place) + 1}]"
        columns[heading] = [latency.cell(value) for value in rows.latency_ratio.where(of_place)]
    names = [place if len(places) == 1 else f"[{i}] {place}" for i, place in enumerate(places, 1)]
    return columns, f"Latency of one image, measured beside the teacher's on {'; '.join(names)}." if names else ""


def latency_places(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns which rows have a latency, by the hardware that it was measured on."""
    known = rows.latency_hardware.where(rows.latency_ratio.notna())
    return {str(place): known == place for place in sorted(known.dropna().unique())}
