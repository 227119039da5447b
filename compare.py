#!/usr/bin/env python3
"""Tables of what runs have reached: `python compare.py [ROOT ...] [--where KEY=VALUE] [--published] [--out FILE]`."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.command import DONE, guard, make_parser, show
from common.errors import RequestError
from reporting.formats.html import web
from reporting.formats.output import check_folder_of, check_out, signed, write
from reporting.formats.render import DATA_FORMATS, FORMATS, SUFFIXES, Report
from reporting.formats.terminal import terminal
from reporting.records.code_versions import apart_by_code
from reporting.records.query import Condition, group_runs, select_runs, unmet
from reporting.records.runs import read_runs
from reporting.records.selection import SELECTIONS, select_epochs
from reporting.tables.literature import literature
from reporting.tables.published_figures import FOLDER as FIGURES
from reporting.tables.published_figures import compare_with_published
from reporting.tables.table import count_methods, tabulate

DEFAULT_ROOT = "save"
FILE_WIDTH = 100  # characters of a terminal's table in a file
READING_FORMATS = ("terminal", "markdown", "latex")  # a page sorts and hides rows itself, programs want all


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser("Compare runs: one table for each data set, protocol and teacher → student pair.")
    parser.add_argument("roots", nargs="*", metavar="ROOT", help="folders that hold runs at any depth (default: save)")
    parser.add_argument(
        "--format", choices=FORMATS, help="default: by the suffix of --out; terminal on a terminal, else markdown"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there and print the path")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE even if it is no report of this command")
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
        help="tables for each value of a field of the config; none and kd stand in all of them where they have no such "
        "field or it is a method's own (weights.beta, options.NAME, kd_T)",
    )
    parser.add_argument(
        "--select",
        choices=SELECTIONS,
        default="last",
        help="whose epoch's test accuracy is the figure: the last one, the best on the test set, or the best on images "
        "held out of the training set (default: last)",
    )
    parser.add_argument(
        "--top", type=int, metavar="N", help="only the N best methods of a pair, beside kd and the student alone"
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="published figures beside ours, and what differs; alone where there are no runs",
    )
    parser.add_argument(
        "--analysis", type=Path, metavar="FOLDER", help="html only: with what scripts/analyse.py has written there"
    )
    return parser.parse_intermixed_args(argv)


def chosen_format(name: str | None, out: Path | None) -> str:
    """The format that was asked for, in words or by the file's suffix, or what suits who reads."""
    if name or out is None:
        return name or ("terminal" if sys.stdout is not None and sys.stdout.isatty() else "markdown")
    if out.suffix.lower() not in SUFFIXES:
        raise RequestError(
            f"--out {out}: no format goes with this name; end it in {' '.join(SUFFIXES)} or add --format"
        )
    return SUFFIXES[out.suffix.lower()]


def build_report(
    roots: Sequence[str],
    where: Sequence[str] = (),
    by: str | None = None,
    select: str = "last",
    published: bool = False,
) -> Report:
    """What lies below `roots`, for the conditions, groups and figure that the flags of the same names ask for.

    Without `roots` that is DEFAULT_ROOT; published figures stand alone where it holds no runs, and where `roots` is the
    folder that has them.

    Raises:
        RequestError: there is no run at all, or a condition or group that no run knows.
    """
    conditions = [Condition.parse(argument) for argument in where]
    asked = [*where, *filter(None, [by])] or select != "last"
    if [Path(root).resolve() for root in roots] == [FIGURES]:
        return literature_report("published figures; none was measured here", asked)
    alone, note = published and not roots, f"no runs of your own in {DEFAULT_ROOT} yet: published figures alone"
    if alone and not os.path.isdir(DEFAULT_ROOT):
        return literature_report(note, asked)
    roots = roots or [DEFAULT_ROOT]
    hint = "make one with `python train_student.py --distill std`"
    for root in roots:
        if not os.path.isdir(root):
            what = "is not a folder" if os.path.lexists(root) else "does not exist"
            raise RequestError(f"{root} {what}, so there are no runs to compare; name a folder of runs or {hint}")
    runs, skipped = read_runs(roots)
    runs = count_methods(apart_by_code(runs))
    if not runs and all(entry.state in ("foreign", "unreadable") for entry in skipped):
        if alone:
            return literature_report(note, asked)
        others = f" ({len(skipped)} folders are foreign or unreadable, e.g. {skipped[0]})" if skipped else ""
        raise RequestError(f"no runs below {', '.join(roots)}{others}; name a folder of runs or {hint}")
    chosen = select_runs(runs, conditions)
    left_out = [f"--where leaves out {len(runs) - len(chosen)} of {len(runs)} finished runs"] if conditions else []
    left_out += unmet(runs, conditions)
    chosen, without_figure = select_epochs(group_runs(chosen, by), select)
    table, notes = tabulate(chosen)
    compared = None
    if published:
        compared, unknown = compare_with_published(table, chosen)
        notes += unknown
    notes, skipped = (list(dict.fromkeys(lines)) for lines in (notes + left_out, skipped + without_figure))
    return Report(table, notes, skipped, chosen, compared)


def literature_report(note: str, asked: object) -> Report:
    """Published figures alone; `asked` says whether a choice among runs was asked for, which there is none of.

    Raises:
        RequestError: it was.
    """
    if asked:
        raise RequestError(f"{note}, and --where, --by and --select choose among runs; leave them out")
    empty, _ = tabulate([])
    return Report(empty, [note], [], literature=literature())


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    name = chosen_format(arguments.format, arguments.out)
    if arguments.analysis and name != "html":
        raise RequestError("--analysis is for a page only: say --format html, or end --out in .html")
    if arguments.top is not None and (arguments.top < 1 or arguments.published or name not in READING_FORMATS):
        formats = ", ".join(READING_FORMATS)
        raise RequestError(f"--top takes a number from 1 on, and shortens our own tables in {formats} only")
    if arguments.out is not None:
        check_folder_of(arguments.out)
        if not arguments.overwrite:
            check_out(arguments.out, "choose another name or add --overwrite")
    report = build_report(arguments.roots, arguments.where, arguments.by, arguments.select, arguments.published)
    if report.literature is not None and arguments.top is not None:
        raise RequestError("--top shortens tables of runs, and these are published figures alone; leave it out")
    report = replace(report, top=arguments.top)
    if name == "html":
        words = sys.argv[1:] if argv is None else argv
        command = shlex.join(["python", "compare.py", *words])
        text = web(report, out=arguments.out, analysis=arguments.analysis, command=command)
    elif name == "terminal" and arguments.out is not None:
        text = terminal(report, width=FILE_WIDTH, colour=False)
    else:
        text = FORMATS[name](report)
    if arguments.out is None:
        show(text)
    else:
        write(arguments.out, signed(text, name))
        show(f"{arguments.out}\n")
    if name in DATA_FORMATS and report.remarks():
        print(*report.remarks(), sep="\n", file=sys.stderr)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
