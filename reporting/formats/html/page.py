"""A report → the page: what stands where. The look is in templates/."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reporting.formats.html.analysis_section import read_analysis
from reporting.formats.html.curve_charts import cost_charts, curve_charts
from reporting.formats.html.grid import Grid, grid_of_shown
from reporting.formats.html.run_list import commands, newest, run_grid, skipped_grid
from reporting.formats.html.verdict import HOW_SURE, verdicts
from reporting.records.untrusted_json import printable
from reporting.tables.layout import BEST, SECOND
from reporting.tables.report import Report

TEMPLATES = Path(__file__).with_name("templates")
TITLE = "Comparison of runs"


@dataclass(frozen=True)
class Part:
    """Tables under one heading."""

    heading: str
    grids: list[Grid]


def web(report: Report, out: Path | None = None, analysis: Path | None = None, command: str = "") -> str:
    """One page that needs nothing else, and that is the same for the same records.

    Args:
        out: where the page will lie, for its links to runs; None for the working folder.
        analysis: a folder that scripts/analyse.py has written.
        command: that makes the page, to be shown on it.

    Raises:
        RequestError: `analysis` cannot be read.
    """
    place = Path(out).resolve().parent if out else Path.cwd()
    said = list(verdicts(report.table))
    runs = list({run.folder: run for run in report.runs}.values())  # a reference may stand in several groups
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
        newest=newest(runs),
        verdicts=said,
        how_sure=HOW_SURE if any(verdict.tested for verdict in said) else "",
        parts=list(_parts(report)),
        legend=report.legend(),
        curves=list(curve_charts(report)),
        costs=list(cost_charts(report.table)),
        hardware=sorted({name for names in report.table.hardware for name in names.split("; ") if name}),
        analysis=None if analysis is None else read_analysis(Path(analysis)),
        runs=run_grid(runs, report.table, place) if runs else None,
        commands=commands(runs),
        notes=report.notes,
        skipped=skipped_grid(report.skipped) if report.skipped else None,
        command=printable(command),
        tags={BEST: "b", SECOND: "u"},
    )


def _parts(report: Report) -> Iterator[Part]:
    parts: Sequence[Part] = []
    for shown, new in report.tables():
        if new:
            parts = [*parts, Part(shown.heading, [])]
        parts[-1].grids.append(grid_of_shown(shown))
    return iter(parts)
