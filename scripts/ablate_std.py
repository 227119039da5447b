#!/usr/bin/env python3
"""Trains STD with one thing changed at a time (tokens, modules, labels, MINE, teachers) and prints one table."""

import sys
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

from common.command import DONE, at_least, guard, make_parser
from common.errors import RequestError
from common.output_places import check_output_file, write_output
from dataset import DATASETS
from engine import cli
from engine.checkpoints.teachers import load_teachers, teacher_files
from engine.device.torchrun import is_distributed
from engine.protocol.plan import RunPlan, SharedSettings, Trial, make_plan
from engine.training.run_plans import run_plans
from models import MODELS
from reporting.tables.ablation import ablation_table

BOTH = {"std_modules": "last+intermediate"}
MAIN = 5  # how many rows the short form has


@dataclass(frozen=True)
class Row:
    """One row of the table: a setting of a method.

    Attributes:
        teachers: which of the given teachers (small first) teach, by position; () without.
    """

    name: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    teachers: tuple[int, ...] = (-1,)


BOTH_TEACHERS = {"std_teachers": "all"}
ROWS = (
    Row("student alone", "none", teachers=()),
    Row("KD", "kd"),
    Row("STD, last block", "std"),
    Row("STD, last and intermediate block", "std", BOTH),
    Row("STD + MINE", "std", {"std_mine": True}),
    Row("STD without tokens", "std", {"std_tokens": "none"}),
    Row("STD, spatial token only", "std", {"std_tokens": "spatial"}),
    Row("STD, channel token only", "std", {"std_tokens": "channel"}),
    Row("STD, soft labels", "std", {"std_labels": "soft"}),
    Row("STD, two layers a token", "std", {"std_layers": 2}),
    Row("STD, two blocks, tokens handed on", "std", {**BOTH, "std_propagate": True}),
    Row("STD, two blocks, MINE", "std", {**BOTH, "std_mine": True}),
    Row("STD ← small teacher", "std", teachers=(0,)),
    Row("STD, last block ← both teachers", "std", BOTH_TEACHERS, (0, 1)),
    Row("STD ← both teachers, equal weights", "std", {**BOTH_TEACHERS, "std_reweighting": "uniform"}, (0, 1)),
    Row("STD ← both teachers, weights by entropy", "std", {**BOTH_TEACHERS, "std_reweighting": "entropy"}, (0, 1)),
    Row("STD, intermediate ← small, last ← large", "std", BOTH, (0, 1)),
    Row("STD, intermediate ← large, last ← small", "std", BOTH, (1, 0)),
)


def parse(argv: list[str] | None):
    parser = make_parser(__doc__)
    parser.add_argument("--model_s", default="mixer_nano", metavar="NAME", help="student (default mixer_nano)")
    parser.add_argument(
        "--model_t", nargs="+", metavar="NAME", help="one or two teachers, small first (default: by the data)"
    )
    parser.add_argument(
        "--path_t",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="checkpoints of the teachers (default: those of --model_t)",
    )
    parser.add_argument(
        "--rows", choices=("main", "all"), default="all", help=f"main: the first {MAIN} only (default all)"
    )
    parser.add_argument(
        "--trials", type=at_least(1), nargs="+", default=[1, 2], metavar="N", help="trials (default 1 2)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write the table to this new file (default: print it only)"
    )
    cli.add_data_arguments(parser)
    cli.add_recipe_arguments(parser)
    cli.add_compute_arguments(parser)
    cli.add_compilation_arguments(parser)
    cli.add_output_arguments(parser, save_freq=0)
    return parser.parse_args(argv)


def chosen_rows(short: bool, teachers: int) -> list[Row]:
    """Returns the rows that can be trained with this number of teachers.

    Args:
        short: only the first MAIN rows.
    """
    rows = ROWS[:MAIN] if short else ROWS
    return [row for row in rows if teachers > 1 or row.teachers in ((), (-1,))]


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    if arguments.out is not None:
        # --overwrite trains all runs again, which no one wants for the sake of a table.
        check_output_file("--out", arguments.out, advice="choose another name or remove the file")
    if is_distributed():
        raise RequestError("this script trains in one process; start it with python, not torchrun")
    entry, model = DATASETS.find(arguments.dataset, arguments.data_folder), MODELS.canonical(arguments.model_s)
    recipe = cli.recipes_of(arguments, {model: MODELS[model]})[model]
    compute = cli.compute_of(arguments)
    files = teacher_files(entry.name, arguments.model_t, arguments.path_t, arguments.output, arguments.data_folder)
    if len(files) > 2:
        raise RequestError(
            f"--model_t, --path_t: {len(files)} teachers are named; give one, or a small and a large one"
        )
    teachers = load_teachers(files, entry)
    rows = chosen_rows(arguments.rows == "main", len(teachers))
    shared = SharedSettings("student", entry.name, compute.precision, save_freq=arguments.save_freq)
    made: dict[str, list[RunPlan]] = {row.name: [] for row in rows}
    failed = False
    for trial, chosen in product(
        dict.fromkeys(arguments.trials), dict.fromkeys(row.teachers for row in rows if row.teachers)
    ):
        taught = [teachers[i] for i in chosen]
        plans = []
        # The student alone shares the data of the first rows that have a teacher.
        for row in (row for row in rows if row.teachers == chosen or (not row.teachers and chosen == (-1,))):
            own = tuple(teacher.file for teacher in taught) if row.teachers else ()
            settings = replace(shared, teachers=own, given_options=row.options)
            plan = make_plan(row.method, model, recipe, settings, Trial(trial, trial))
            plans.append(plan)
            made[row.name].append(plan)
        outcome = run_plans(
            plans,
            taught,
            cli.settings_of(arguments, compute),
        )
        failed = failed or bool(outcome.failures)
    text = ablation_table({name: [arguments.output / plan.folder for plan in plans] for name, plans in made.items()})
    print(text)
    if arguments.out is not None:
        write_output("--out", arguments.out, text + "\n")
    return cli.FAILED if failed else DONE


if __name__ == "__main__":
    script.run(main, __file__)
