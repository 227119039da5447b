"""All that compare.py says, before it has a format: tables in reading order, legend and remarks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from reporting.records.run import Run, Skipped
from reporting.records.selection import LEFT_OUT
from reporting.tables.accuracy_cost_tables import CostChoice, accuracy_cost_tables, with_front, within_lines
from reporting.tables.columns import GROUP, PAIR
from reporting.tables.cost_tables import cost_tables
from reporting.tables.literature import LEGEND as LITERATURE_LEGEND
from reporting.tables.literature import literature_table
from reporting.tables.network_tables import network_table, probe_table
from reporting.tables.pair_tables import accuracy_table, difference_table, leading_rows
from reporting.tables.published_tables import LEGEND as PUBLISHED_LEGEND
from reporting.tables.published_tables import published_tables
from reporting.tables.statistics import TOO_FEW
from reporting.tables.summary_table import summary_table
from reporting.tables.text_table import TextTable
from reporting.tables.wording import data_title, figure_words, legend

NOTHING = "No finished runs yet."
NOTHING_LEFT = "No finished run has such a figure; the reasons are below."
NOTHING_PUBLISHED = "Nothing published is known here for these pairs."


@dataclass(frozen=True)
class Report:
    """A table of runs, of runs beside published figures, or of published figures alone.

    Attributes:
        table: the tidy table (see `table.tabulate`); `paths` of a row are the `path` of its runs.
        notes: what its reader should know.
        skipped: what was not counted.
        runs: the finished runs behind the table.
        published: the rows of `published_figures.compare_with_published`, to be shown in place of the table.
        literature: the rows of `literature.literature`, where there are no runs to set beside published figures.
        top: how many methods the tables for people show; None for all.
        choice: the costs by which students are compared with one another; None for no such tables.
    """

    table: pd.DataFrame
    notes: list[str]
    skipped: list[Skipped]
    runs: Sequence[Run] = ()
    published: pd.DataFrame | None = None
    literature: pd.DataFrame | None = None
    top: int | None = None
    choice: CostChoice | None = None

    @property
    def data(self) -> pd.DataFrame:
        """The table for programs."""
        if self.literature is not None:
            return self.literature
        if self.choice is not None and self.choice.pareto:
            return with_front(self.table, self.choice.pareto)
        return self.table if self.published is None else self.published

    def tables(self) -> Iterator[tuple[TextTable, bool]]:
        """Yields each table for people, and whether its heading differs from the one before."""
        heading = None
        for table in self._text_tables():
            yield table, table.heading != heading
            heading = table.heading

    def _text_tables(self) -> Iterable[TextTable]:
        if self.literature is not None:
            return [literature_table(self.literature)]
        if self.published is not None:
            return published_tables(self.published)
        return text_tables(self.table, self.top, self.choice)

    def legend(self) -> str:
        """Returns the text below the tables."""
        if self.literature is not None:
            return LITERATURE_LEGEND
        if self.table.empty:
            return NOTHING_LEFT if any(entry.state == LEFT_OUT for entry in self.skipped) else NOTHING
        if self.published is None:
            return legend(self.table)
        return NOTHING_PUBLISHED if self.published.empty else PUBLISHED_LEGEND

    def remarks(self) -> list[str]:
        """Returns the notes and what was not counted, a line each."""
        return [f"note: {note}" for note in self.notes] + [f"not counted: {entry}" for entry in self.skipped]

    def within_lines(self) -> list[str]:
        """Returns what `--within` asks for, a line for each teacher; its tables have it in their notes."""
        return [] if self.choice is None else list(within_lines(self.table, self.choice))


def text_tables(table: pd.DataFrame, top: int | None = None, choice: CostChoice | None = None) -> Iterator[TextTable]:
    """Yields the tables by data set and protocol, then those of frozen backbones and of networks trained alone.

    Args:
        top: how many methods a table of methods shows, the best ones, beside kd and the student alone; None for all.
        choice: the costs of tables of all students of a teacher; None for no such tables.
    """
    for place, of_dataset in table.groupby(GROUP[:4], sort=False):
        title = data_title(place)
        probes, networks = of_dataset.role == "probe", of_dataset.role == "network"
        for _, of_protocol in of_dataset[~(probes | networks)].groupby("protocol_id", sort=False):
            yield from _protocol_tables(_heading(title, of_protocol), of_protocol, top, choice)
        for _, frozen in of_dataset[probes].groupby("protocol_id", sort=False):
            yield probe_table(_heading(title, frozen), frozen)
        if networks.any():
            yield network_table(title + figure_words(of_dataset).heading, of_dataset[networks])


def _heading(title: str, rows: pd.DataFrame) -> str:
    return f"{title}: {rows.protocol.iloc[0]} [{rows.protocol_id.iloc[0]}]{figure_words(rows).heading}"


def _protocol_tables(
    heading: str, rows: pd.DataFrame, top: int | None, choice: CostChoice | None
) -> Iterator[TextTable]:
    pairs = []
    for _, pair in rows.groupby(PAIR, sort=False):
        yield accuracy_table(heading, pair, top)
        pairs.append(pair.iloc[leading_rows(pair, top)])
        if not set(pair.kd_test.dropna()) <= {TOO_FEW}:
            yield difference_table(heading, pairs[-1])
    if sum((pair.role == "method").any() for pair in pairs) > 1:
        yield summary_table(heading, rows, top)
    if choice is not None:
        yield from accuracy_cost_tables(heading, rows, choice)
    for pair in pairs:
        yield from cost_tables(heading, pair)
