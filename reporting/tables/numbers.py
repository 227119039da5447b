"""Numbers as texts: what is not known (NaN) is an empty text. A negative one has the sign for minus, not a hyphen."""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

ALPHA = 0.05  # level of significance
MINUS = "\u2212"
ALIGNED = re.compile(r"(?<=\S)(  +)(?=\S)")  # the spaces by which `spreads` aligns figures


def number(value: float, decimals: int = 2) -> str:
    """Returns the number with thousands separators; "" for NaN."""
    return "" if pd.isna(value) else formatted(round(float(value), decimals) + 0.0, f",.{decimals}f")


def signed(value: float) -> str:
    """Returns two decimals with a sign; "" for NaN."""
    return "" if pd.isna(value) else formatted(round(float(value), 2) + 0.0, "+.2f")  # + 0.0 turns -0.0 into 0.0


def formatted(value: float, form: str) -> str:
    """Returns a number in a format such as "+.2f"."""
    return format(value, form).replace("-", MINUS)


def spread(mean: float, std: float, n: int) -> str:
    """Returns mean, standard deviation and number of trials, such as "60.53 ± 0.59 (3)"; "59.00 (1)" without one."""
    around = number(std)
    return f"{number(mean)}{f' ± {around}' if around else ''} ({n})" if pd.notna(mean) else ""


def spreads(rows: Iterable[tuple[float, float, int]]) -> list[str]:
    """Returns `spread` of each row, with spaces in the place of what is missing, so that the means are aligned."""
    parts = [(number(mean), number(std), f"({n})") for mean, std, n in rows]
    wide = max((len(std) for mean, std, _ in parts if mean), default=0)
    most = max((len(n) for mean, _, n in parts if mean), default=0)
    texts = []
    for mean, std, n in parts:
        around = f" ± {std:>{wide}}" if std else " " * (wide + 3) * bool(wide)
        texts.append(f"{mean}{around} {n:>{most}}" if mean else "")
    return texts


def stand_in(spaces: str) -> str:
    """Returns what is as wide as the spaces of `spreads` but the last one, where letters differ in width."""
    room = len(spaces) - 1
    return "0" * room if room < len(" ± 0.00") else f" ± {'0' * (room - len(' ± .00'))}.00"


def interval(low: float, high: float) -> str:
    """Returns an interval of differences, such as "−1.62 … +5.43"; "" for NaN."""
    return "" if np.isnan(low) else f"{signed(low)} … {signed(high)}"


def p_value(p: float) -> str:
    """Returns three decimals, which never round a significant p up to ALPHA; "" for NaN."""
    if np.isnan(p) or p < 0.001:
        return "" if np.isnan(p) else "< 0.001"
    text = f"{p:.3f}"
    return f"< {text}" if p < ALPHA <= float(text) else text
