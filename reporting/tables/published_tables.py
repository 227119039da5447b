"""Published figures beside ours as tables for people, one for each pair and protocol."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from common.messages import counted
from reporting.tables.columns import PAIR
from reporting.tables.numbers import number, signed
from reporting.tables.text_table import TextTable
from reporting.tables.wording import NAMES, data_title, pair_title

LEGEND = (
    "Test accuracy (top-1, %), ours as mean ± sample standard deviation over (n) trials. Terms: theirs, epochs and "
    "which epoch is printed. Differs: what is not equal on the two sides, with a question mark where the source is "
    "silent: recipe says that theirs is known to be another than ours, recipe? that it is not known; settings are the "
    "method's weights and options, which some sources choose by the pair. Only a row with both figures and no mark can "
    "count as a reproduction. Sources: results/published/README.md."
)


def published_tables(compared: pd.DataFrame) -> Iterator[TextTable]:
    """Yields a table per pair and protocol.

    Args:
        compared: the rows of `published_figures.compare_with_published`.
    """
    for names, pair in compared.groupby(PAIR, sort=False):
        *place, protocol_id, teacher, student = names
        first = pair.iloc[0]
        heading = f"{data_title(place)}: published figures beside {first.protocol} [{protocol_id}]"
        sources = [source for source in dict.fromkeys(pair.source) if isinstance(source, str)]
        cells = [_cells(row, sources) for row in pair.itertuples()]
        ours = f"{counted(first.our_epochs, 'epoch')}, {first.our_selection}"
        title = f"{pair_title(str(teacher), str(student))}: ours {ours}"
        yield TextTable(heading, title, pd.DataFrame(cells), optional=("source",), note=_about_sources(pair, sources))


def _cells(row: Any, sources: list[str]) -> dict[str, str]:
    return {
        "method": row.method,
        "published": _figure(row.published, row.published_std),
        "ours (n)": f"{_figure(row.ours, row.ours_std)} ({row.n})",
        "difference": signed(row.difference),
        "terms": _terms(row),
        "differs": row.differs if isinstance(row.differs, str) else "",
        "source": str(sources.index(row.source) + 1) if row.source in sources else "",
    }


def _about_sources(pair: pd.DataFrame, sources: list[str]) -> str:
    """Returns the sources by number, where they disagree, and settings of their own."""
    note = "Sources: " + "; ".join(f"{i} {source}" for i, source in enumerate(sources, 1)) + "."
    rows: list[Any] = list(pair.itertuples())
    disagree = [
        f"{row.method} {number(row.lowest)} to {number(row.highest)} ({row.sources})"
        for row in rows
        if isinstance(row.source, str) and row.lowest < row.highest
    ]
    if disagree:
        note += f" Sources disagree on {', '.join(disagree)}."
    settings = [f"{row.method}: {row.setting}" for row in rows if row.source in sources and row.setting != ""]
    if settings:
        note += f" Settings: {'; '.join(settings)}."
    return note


def _terms(row: Any) -> str:
    """Returns epochs and selection of a published figure; "" for teachers and where there is none."""
    if not isinstance(row.source, str) or row.method == NAMES["teacher"]:
        return ""
    return f"{'?' if pd.isna(row.published_epochs) else row.published_epochs}, {row.published_selection or '?'}"


def _figure(mean: float, std: float) -> str:
    return number(mean) + (f" ± {number(std)}" if number(std) else "")
