"""Tables of networks that are no part of a pair: trained alone as teachers, or frozen under a new classifier."""

from typing import Any

import pandas as pd

from reporting.tables.numbers import number, signed
from reporting.tables.pair_tables import BALANCED, balanced_cell, figure_cells
from reporting.tables.ranking import ranked
from reporting.tables.student_costs import COSTS
from reporting.tables.text_table import TextTable, without_empty_columns
from reporting.tables.wording import figure_words


def probe_table(heading: str, frozen: pd.DataFrame) -> TextTable:
    """Returns the accuracies of new classifiers on frozen networks, and how those were trained."""
    words = figure_words(frozen)
    rows: list[Any] = list(frozen.itertuples())
    figures = figure_cells(frozen, words)
    cells = [
        {
            "model": row.student,
            "trained by": row.method,
            words.column: figure,
            "test top-1": number(row.top1_mean) if words.figure == "validation" else "",
            words.beside: number(getattr(row, words.beside_column)),
            BALANCED: balanced_cell(row),
            "gain over none": signed(row.gain),
        }
        for row, figure in zip(rows, figures, strict=True)
    ]
    return TextTable(heading, "frozen backbones, new classifier", without_empty_columns(pd.DataFrame(cells)))


def network_table(heading: str, networks: pd.DataFrame) -> TextTable:
    """Returns the accuracies and sizes of networks trained alone."""
    words = figure_words(networks)
    ambiguous = networks.protocol.nunique() < networks.protocol_id.nunique()
    networks = networks.assign(ranked=ranked(networks)).sort_values(["student", "ranked"], ascending=[True, False])
    rows: list[Any] = list(networks.itertuples())
    figures = figure_cells(networks, words)
    macs, file_size = COSTS["macs"], COSTS["bytes"]
    cells = [
        {
            "model": f"{row.student} {row.method}".strip(),
            words.column: figure,
            "test top-1": number(row.top1_mean) if words.figure == "validation" else "",
            words.beside: number(getattr(row, words.beside_column)),
            BALANCED: balanced_cell(row),
            "parameters": f"{row.parameters:,}",
            macs.heading: macs.cell(row.macs),
            file_size.heading: file_size.cell(row.file_bytes),
            "protocol": f"{row.protocol} [{row.protocol_id}]" if ambiguous else row.protocol,
        }
        for row, figure in zip(rows, figures, strict=True)
    ]
    return TextTable(heading, "networks trained alone", without_empty_columns(pd.DataFrame(cells)))
