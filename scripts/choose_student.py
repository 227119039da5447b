#!/usr/bin/env python3
"""Print the folder of the smallest student that is close to its teacher, or of the closest one if none is.

It is the student that `compare.py ROOT --within POINTS COST` names; of several trials the most accurate.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

from common.command import DONE, guard, make_parser, show
from common.errors import RequestError
from reporting.tables.cost_names import COST_NAMES, DEFAULT_COST

if TYPE_CHECKING:
    import pandas as pd


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("root", type=Path, metavar="ROOT", help="a folder that holds runs at any depth")
    parser.add_argument(
        "--within", type=float, default=1.0, metavar="POINTS", help="how far below its teacher it may be (default 1)"
    )
    parser.add_argument(
        "--cost", choices=COST_NAMES, default=DEFAULT_COST, help=f"what it has the least of (default {DEFAULT_COST})"
    )
    return parser.parse_args(argv)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    if not 0 <= arguments.within <= 100:
        raise RequestError(f"--within {arguments.within:g}: give a number of points from 0 to 100, such as 1.0")
    # It takes seconds to import: the command line is checked first.
    from reporting.tables.build_report import build_report

    chosen = choose(build_report([str(arguments.root)]).table, arguments.within, arguments.cost)
    if chosen is None:
        raise RequestError(
            f"no student below {arguments.root} has {arguments.cost} and the accuracy of its teacher on record; "
            f"distil one, or choose another --cost"
        )
    below = chosen.teacher_figure - chosen.figure
    reason = f"{chosen.student} {chosen.method}: {chosen.figure:.2f} %, {below:.2f} points below its teacher"
    print(reason, file=sys.stderr)
    best = max(zip(chosen["values"], chosen.paths, strict=True), key=lambda trial: trial[0])
    show(f"{best[1]}\n")
    return DONE


def choose(table: pd.DataFrame, points: float, cost: str) -> pd.Series | None:
    """Return the row of the smallest student within some points of its teacher, else of the closest; None without any.

    Args:
        table: the tidy table (see `reporting.tables.table.tabulate`).
        points: how far below its teacher a student may be, in points of accuracy.
        cost: name of the cost that it has the least of.
    """
    import pandas as pd

    from reporting.tables.accuracy_cost_tables import beside_teachers
    from reporting.tables.columns import GROUP
    from reporting.tables.pareto import smallest_within

    taught = [
        beside_teachers(rows, cost)
        for _, rows in table.groupby([*GROUP, "teacher"], sort=False)
        if (rows.role == "teacher").any()
    ]
    if not taught:
        return None
    smallest, closest = smallest_within(pd.concat(taught), points)
    return closest if smallest is None else smallest


if __name__ == "__main__":
    script.run(main, __file__)
