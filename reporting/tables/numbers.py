"""Numbers as texts: what is not known (NaN) is an empty text."""

import numpy as np
import pandas as pd

ALPHA = 0.05  # level of significance


def number(value: float, decimals: int = 2) -> str:
    """Returns the number with thousands separators; "" for NaN."""
    return "" if pd.isna(value) else f"{round(float(value), decimals) + 0.0:,.{decimals}f}"


def signed(value: float) -> str:
    """Returns two decimals with a sign; "" for NaN."""
    return "" if pd.isna(value) else f"{round(float(value), 2) + 0.0:+.2f}"  # + 0.0 turns -0.0 into 0.0


def spread(mean: float, std: float, n: int) -> str:
    """Returns mean, standard deviation and number of trials, such as "60.53 ± 0.59 (3)"."""
    return f"{number(mean)} ± {number(std) or '–'} ({n})"


def interval(low: float, high: float) -> str:
    """Returns an interval of differences, such as "-1.62 … +5.43"; "" for NaN."""
    return "" if np.isnan(low) else f"{signed(low)} … {signed(high)}"


def p_value(p: float) -> str:
    """Returns three decimals, which never round a significant p up to ALPHA; "" for NaN."""
    if np.isnan(p) or p < 0.001:
        return "" if np.isnan(p) else "< 0.001"
    text = f"{p:.3f}"
    return f"< {text}" if p < ALPHA <= float(text) else text
