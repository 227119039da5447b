#!/usr/bin/env python3
"""Compares runs in tables: `python compare.py [ROOT ...] [--where KEY=VALUE] [--published] [--out FILE]`."""

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

import argparse
import math
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from common.command import DONE, guard, make_parser, number, show, show_file
from common.errors import RequestError
from common.output_places import check_output_file, write_output
from reporting.formats.names import DATA_FORMATS, FORMATS, SHORTENED_FORMATS, SUFFIXES
from reporting.records.selection import SELECTIONS
from reporting.tables.cost_names import COST_NAMES, DEFAULT_COST

FILE_WIDTH = 100  # characters of a terminal's table in a file


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser("Compare runs: one table for each data set, protocol and teacher → student pair.")
    parser.add_argument(
        "roots", type=Path, nargs="*", metavar="ROOT", help="folders that hold runs at any depth (default: save)"
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="default: by the suffix of --out; terminal on a terminal, else markdown"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there and print the path")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE[,VALUE]",
        help="only runs whose config has one of these values: method=std,kd, model_s=resnet20, recipe.epochs=240, "
        "options.std_modules=last; several --where must all hold",
    )
    parser.add_argument(
        "--by",
        metavar="KEY",
        help="separate tables for each value of a field of the config; none and kd are in all of them if they have no "
        "such field or it is a method's own (weights.beta, options.NAME, kd_T). Without --by the values of a method's "
        "own field are rows of one table",
    )
    parser.add_argument(
        "--select",
        choices=SELECTIONS,
        default="last",
        help="which epoch's test accuracy to show: the last, the best on the test set, or the best on images held out "
        "of the training set (default: last)",
    )
    parser.add_argument(
        "--top", type=int, metavar="N", help="show only the N best methods of a pair, beside kd and the student alone"
    )
    parser.add_argument(
        "--pareto",
        nargs="?",
        const=DEFAULT_COST,
        metavar="COST",
        help="add tables of all students of a teacher, and mark those that no other beats in both accuracy and COST: "
        f"{', '.join(COST_NAMES)} (default: {DEFAULT_COST})",
    )
    parser.add_argument(
        "--within",
        nargs="+",
        metavar="POINTS",
        help="name the student of the least cost whose accuracy is at most POINTS below its teacher's; "
        f"a COST may follow (default: {DEFAULT_COST})",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="show published figures beside ours and what differs; without runs published figures alone",
    )
    parser.add_argument(
        "--analysis", type=Path, metavar="FOLDER", help="html only: add what scripts/analyse.py wrote there"
    )
    return parser.parse_intermixed_args(argv)


def chosen_format(name: str | None, out: Path | None) -> str:
    """Returns the format that --format names, or the suffix of --out, or the one for a terminal or a pipe.

    Raises:
        RequestError: the suffix is none of a format.
    """
    if name or out is None:
        return name or ("terminal" if sys.stdout is not None and sys.stdout.isatty() else "markdown")
    if out.suffix.lower() not in SUFFIXES:
        raise RequestError(
            f"--out {out}: no format has this suffix; available: {' '.join(SUFFIXES)}, or choose one by --format"
        )
    return SUFFIXES[out.suffix.lower()]


def check_cost(flag: str, name: str) -> str:
    """Returns the name of a cost. Raises RequestError where it is none."""
    if name not in COST_NAMES:
        hint = f"; name the folder before {flag}" if Path(name).is_dir() else ""
        raise RequestError(f"{flag}: unknown cost {name}; available: {', '.join(COST_NAMES)}{hint}")
    return name


def check_within(words: list[str]) -> tuple[float, str]:
    """Returns the points and the cost of --within. Raises RequestError where they are none."""
    try:
        points = number(words[0])
    except argparse.ArgumentTypeError:
        points = math.nan
    if not 0 <= points <= 100:
        raise RequestError(f"--within {words[0]}: give a number of points from 0 to 100, such as --within 1.0")
    if len(words) > 2:
        raise RequestError(f"--within {' '.join(words)}: give POINTS and at most one COST")
    return points, check_cost("--within", words[1]) if words[1:] else DEFAULT_COST


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    name = chosen_format(arguments.format, arguments.out)
    if arguments.analysis and name != "html":
        raise RequestError("--analysis is for a page only; add --format html, or end --out in .html")
    if arguments.top is not None:
        if arguments.top < 1:
            raise RequestError(f"--top {arguments.top}: give a number from 1 on")
        if arguments.published or name not in SHORTENED_FORMATS:
            formats = ", ".join(SHORTENED_FORMATS)
            raise RequestError(f"--top shortens tables of runs in {formats} only; leave it out, or --published")
    pareto = None if arguments.pareto is None else check_cost("--pareto", arguments.pareto)
    within, within_cost = (None, DEFAULT_COST) if arguments.within is None else check_within(arguments.within)
    if arguments.published and (pareto or within is not None):
        raise RequestError("--pareto and --within compare runs with one another; leave them out, or --published")
    if arguments.out is not None:
        check_output_file("--out", arguments.out, arguments.overwrite)
    # These take seconds to import: the command line is checked first.
    from reporting.formats.html.page import to_html
    from reporting.formats.printers import PRINTERS
    from reporting.formats.terminal import to_terminal
    from reporting.tables.accuracy_cost_tables import CostChoice, check_costs
    from reporting.tables.build_report import build_report

    roots = list(map(str, arguments.roots))
    report = build_report(roots, arguments.where, arguments.by, arguments.select, arguments.published)
    if report.literature is not None and arguments.top is not None:
        raise RequestError("--top shortens tables of runs, and these are published figures alone; leave it out")
    choice = CostChoice(pareto, within, within_cost) if pareto or within is not None else None
    if choice is not None:
        if report.literature is not None:
            raise RequestError(
                "--pareto and --within compare runs, and these are published figures alone; leave them out"
            )
        check_costs(report.table, choice)
    report = replace(report, top=arguments.top, choice=choice)
    if name == "html":
        words = sys.argv[1:] if argv is None else argv
        command = shlex.join(["python", "compare.py", *words])
        text = to_html(report, out=arguments.out, analysis=arguments.analysis, command=command)
    elif name == "terminal" and arguments.out is not None:
        text = to_terminal(report, width=FILE_WIDTH, colour=False)
    else:
        text = PRINTERS[name](report)
    if arguments.out is None:
        show_file(text)
    else:
        write_output("--out", arguments.out, text)
        show(f"{arguments.out}\n")
    if name in DATA_FORMATS and (lines := [*report.within_lines(), *report.remarks()]):
        print(*lines, sep="\n", file=sys.stderr)
    return DONE


if __name__ == "__main__":
    script.run(main, __file__)
