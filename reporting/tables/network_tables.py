"""Tables of networks that are no part of a pair: trained alone as teachers, or frozen under a new classifier."""

from typing import Any

import pandas as pd

from reporting.tables.numbers import number, signed, spread
from reporting.tables.text_table import TextTable
from reporting.tables.wording import figure_words


def probe_table(heading: str, frozen: pd.DataFrame) -> TextTable:
    """Returns the accuracies of new classifiers on frozen networks, and how those were trained."""
    words = figure_words(frozen)
    rows: list[Any] = list(frozen.itertuples())
    cells = [
        {
            "model": row.student,
            "trained by": row.method,
            words.column: spread(row.top1_mean, row.top1_std, row.n),
            words.beside: number(getattr(row, words.beside_column)),
            "gain over none": signed(row.gain),
        }
        for row in rows
    ]
    return TextTable(heading, "frozen backbones, new classifier", pd.DataFrame(cells))


def network_table(heading: str, networks: pd.DataFrame) -> TextTable:
    """Returns the accuracies and sizes of networks trained alone."""
    words = figure_words(networks)
    ambiguous = networks.protocol.nunique() < networks.protocol_id.nunique()
    rows: list[Any] = list(networks.sort_values(["student", "top1_mean"], ascending=[True, False]).itertuples())
    cells = [
        {
            "model": f"{row.student} {row.method}".strip(),
            words.column: spread(row.top1_mean, row.top1_std, row.n),
            words.beside: number(getattr(row, words.beside_column)),
            "parameters": f"{row.parameters:,}",
            "protocol": f"{row.protocol} [{row.protocol_id}]" if ambiguous else row.protocol,
        }
        for row in rows
    ]
    return TextTable(heading, "networks trained alone", pd.DataFrame(cells))
