"""All that a page says, before it has a format."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from reporting.records.runs import Run, Skipped
from reporting.records.selection import LEFT_OUT
from reporting.tables.layout import Shown, arrange, legend
from reporting.tables.literature import LEGEND as LITERATURE
from reporting.tables.literature import arrange_literature
from reporting.tables.published_figures import LEGEND, arrange_published

NOTHING = "No finished runs yet."
NOTHING_LEFT = "No finished run has such a figure; the reasons are below."
NOTHING_PUBLISHED = "Nothing published is known here for these pairs."


@dataclass(frozen=True)
class Report:
    """A table of runs, or of runs beside published figures.

    Attributes:
        table: the tidy table (see `table.tabulate`); `paths` of a row are the `path` of its runs.
        notes: what its reader should know.
        skipped: what was not counted.
        runs: the finished runs behind the table, each with `folder`, `config_path`, `config` and `metrics()`, which
            reads a run's epochs when it is called.
        literature: the rows of `literature.literature`, where there are no runs to set beside published figures.
        top: how many methods the tables for people show; None: all (see `layout.arrange`).
        published: the rows of `published.compare_with_published`, where those are asked for in place of the table.
    """

    table: pd.DataFrame
    notes: list[str]
    skipped: list[Skipped]
    runs: Sequence[Run] = ()
    published: pd.DataFrame | None = None
    literature: pd.DataFrame | None = None
    top: int | None = None

    @property
    def data(self) -> pd.DataFrame:
        """What formats for programs hold."""
        if self.literature is not None:
            return self.literature
        return self.table if self.published is None else self.published

    def tables(self) -> Iterator[tuple[Shown, bool]]:
        """Each table for people, and whether its heading differs from the one before."""
        heading = None
        for shown in self._arranged():
            yield shown, shown.heading != heading
            heading = shown.heading

    def _arranged(self) -> Iterable[Shown]:
        if self.literature is not None:
            return [arrange_literature(self.literature)]
        return arrange(self.table, self.top) if self.published is None else arrange_published(self.published)

    def legend(self) -> str:
        """What stands below the tables."""
        if self.literature is not None:
            return LITERATURE
        if self.table.empty:
            return NOTHING_LEFT if any(entry.state == LEFT_OUT for entry in self.skipped) else NOTHING
        if self.published is None:
            return legend(self.table)
        return NOTHING_PUBLISHED if self.published.empty else LEGEND

    def remarks(self) -> list[str]:
        """What stands at the end, a line each."""
        return [f"note: {note}" for note in self.notes] + [f"not counted: {entry}" for entry in self.skipped]
