"""Prints a report as a page: its parts in order. The look is in templates/."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from common.json_files import printable
from reporting.formats.html.analysis_section import read_analysis
from reporting.formats.html.curve_charts import cost_charts, curve_charts
from reporting.formats.html.grid import Grid, grid_of_texts
from reporting.formats.html.run_list import commands, newest, run_grid, skipped_grid
from reporting.formats.html.student_cost_charts import student_cost_charts
from reporting.formats.html.verdict import HOW_SURE, verdicts
from reporting.tables.report import Report
from reporting.tables.text_table import BEST, SECOND

TEMPLATES = Path(__file__).with_name("templates")
TITLE = "Comparison of runs"


@dataclass(frozen=True)
class Part:
    """Tables that share a heading."""

    heading: str
    grids: list[Grid]


def to_html(report: Report, out: Path | None = None, analysis: Path | None = None, command: str = "") -> str:
    """Returns one page that needs nothing else, and that is the same for the same records.

    Args:
        out: file of the page, for its links to runs; None for the working folder.
        analysis: folder that scripts/analyse.py wrote.
        command: command line that makes the page, shown on it.

    Raises:
        RequestError: `analysis` cannot be read.
    """
    place = Path(out).resolve().parent if out else Path.cwd()
    winners = list(verdicts(report.table))
    style, script = (TEMPLATES.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template("page.html.jinja").render(
        title=TITLE,
        # The browser itself refuses whatever is not of this page: other scripts, and every request.
        policy=f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:",
        style=Markup(style),
        script=Markup(script),
        newest=newest(report.runs),
        verdicts=winners,
        how_sure=HOW_SURE if any(verdict.tested for verdict in winners) else "",
        parts=list(_parts(report)),
        legend=report.legend(),
        curves=list(curve_charts(report)),
        costs=[*cost_charts(report.table), *student_cost_charts(report.table)],
        analysis=None if analysis is None else read_analysis(Path(analysis)),
        runs=run_grid(report.runs, report.table, place) if report.runs else None,
        commands=commands(report.runs),
        notes=report.notes,
        skipped=skipped_grid(report.skipped) if report.skipped else None,
        command=printable(command),
        tags={BEST: "b", SECOND: "u"},
    )


def _parts(report: Report) -> Iterator[Part]:
    parts: Sequence[Part] = []
    for table, new in report.tables():
        if new:
            parts = [*parts, Part(table.heading, [])]
        parts[-1].grids.append(grid_of_texts(table))
    return iter(parts)
