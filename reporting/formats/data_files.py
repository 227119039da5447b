"""Writes the tidy table of a report for programs: CSV and JSON."""

import json

from common.spreadsheet import csv_of
from reporting.tables.columns import LISTS
from reporting.tables.report import Report


def to_csv(report: Report) -> str:
    """Returns the tidy table as CSV; several trials, values or paths are in one field, separated by semicolons.

    Names come from strangers' folders, so no text is a formula to a spreadsheet.
    """
    table = report.data.copy()
    for name in set(LISTS) & set(table.columns):
        table[name] = [";".join(map(str, values)) for values in table[name]]
    return csv_of(table)


def to_json(report: Report) -> str:
    """Returns the tidy table as a JSON list of objects; null is what is not known."""
    table = report.data
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    text = json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False, default=lambda value: value.item())
    return text + "\n"
