#!/usr/bin/env python3
"""Distil one or several teachers into a student, by one or several methods that share the teacher's pass."""

import math
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import get_args

from common.command import DONE, guard, make_parser, show
from common.errors import RequestError
from dataset import DATASETS
from distiller_zoo import Weights, method_class
from distiller_zoo.teacher_mixture import Weighting
from engine import cli
from engine.checkpoints.teachers import load_teachers, teacher_files
from engine.protocol.options import resolve_options
from engine.protocol.plan import DEFAULT_KD_T, RunPlan
from engine.protocol.presets import preset_names, with_preset
from engine.protocol.published_weights import with_paper_weights
from engine.training.run_plans import run_plans
from engine.training.session import RunSettings
from models import DEFAULT_STUDENT, MODELS


def parse(argv: list[str] | None):
    parser = make_parser(__doc__)
    parser.add_argument("--preset", metavar="NAME", help=f"a whole command line: {', '.join(preset_names())}")
    parser.add_argument("--list", action="store_true", help="list methods, models, data sets, recipes, presets")
    parser.add_argument(
        "--distill",
        nargs="+",
        default=["kd"],
        metavar="NAME",
        help="method(s), kd by default; none: student alone; all: every one; crd+kd: both in one run",
    )
    parser.add_argument(
        "--model_s",
        nargs="+",
        default=[DEFAULT_STUDENT],
        metavar="NAME",
        help=f"student(s) (default {DEFAULT_STUDENT})",
    )
    parser.add_argument(
        "--model_t",
        nargs="+",
        metavar="NAME",
        help="teacher(s): the one trained here or published under this name; beside --path_t what network a file holds",
    )
    parser.add_argument(
        "--path_t", type=Path, nargs="+", metavar="PATH", help="teacher checkpoint(s); by default see --model_t"
    )
    for short, name, what in (
        ("-r", "gamma", "cross-entropy"),
        ("-a", "alpha", "KL term"),
        ("-b", "beta", "method's own loss"),
    ):
        parser.add_argument(short, f"--{name}", type=float, nargs="+", metavar="W", help=f"weight(s) of the {what}")
    parser.add_argument(
        "--kd_T", type=cli.finite, default=DEFAULT_KD_T, metavar="FLOAT", help="temperature of the KL term"
    )
    parser.add_argument(
        "--logit_standardization", action="store_true", help="losses on logits see standardised ones (LSKD, CVPR 2024)"
    )
    parser.add_argument(
        "--teacher_weighting", choices=get_args(Weighting), default="average", help="of several teachers' predictions"
    )
    parser.add_argument(
        "--paper_weights",
        action="store_true",
        help="weights and options that a paper gives for this pair on CIFAR-100; it is said what was taken",
    )
    parser.add_argument("--allow_namespace", action="store_true", help="read *_last.pth files of RepDistiller")
    parser.add_argument("--skip_refused", action="store_true", help="leave out methods that refuse the pair")
    parser.add_argument(
        "--group_size",
        type=int,
        metavar="N",
        help="train N runs at a time: less memory, first rows earlier, all a little later; default: all that can share",
    )
    cli.add_data_arguments(parser)
    cli.add_recipe_arguments(parser)
    cli.add_retrospection_arguments(parser)
    cli.add_run_arguments(parser)
    cli.add_meaningless_arguments(parser)
    cli.add_method_arguments(parser)
    return parser.parse_args(with_preset(sys.argv[1:] if argv is None else argv))


def resolve_weights(method: str, arguments) -> list[Weights]:
    """The method's published weights with those that the user gave, in all combinations.

    α counts only where there is a teacher, and β where there is a loss of the method's own.
    """
    cls = method_class(method)
    given = {key: getattr(arguments, key) for key in ("gamma", "alpha", "beta") if getattr(arguments, key) is not None}
    for key, values in given.items():
        for value in values:
            if not math.isfinite(value) or value < 0:
                raise RequestError(f"--{key} is {value}; a loss weight must be finite and not negative")
    if cls.max_teachers == 0:
        given = {key: values for key, values in given.items() if key == "gamma"}
    if cls.weights.beta == 0:  # published so because there is no loss of its own to weigh
        given.pop("beta", None)
    # 1.0 in place of a published 1 would be another digest.
    return list(
        dict.fromkeys(
            replace(cls.weights, **{k: v for k, v in zip(given, values, strict=True) if v != getattr(cls.weights, k)})
            for values in product(*given.values())
        )
    )


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    if arguments.list:
        show(cli.listing() + "\n")
        return DONE
    if arguments.kd_T <= 0:
        raise RequestError(f"--kd_T is {arguments.kd_T}; it must be positive")
    if arguments.group_size is not None and arguments.group_size < 1:
        raise RequestError(f"--group_size is {arguments.group_size}; it must be at least 1")
    cli.mention_meaningless(arguments)
    methods = cli.chosen_methods(arguments.distill)
    models = list(dict.fromkeys(MODELS.canonical(name) for name in arguments.model_s))
    entry = DATASETS.find(arguments.dataset, arguments.data_folder)
    given_options = cli.given_method_options(arguments, methods)
    recipes = cli.recipes_of(arguments, {model: MODELS[model] for model in models})
    retrospection = cli.retrospection_of(arguments, recipes.values())
    trials, compute = cli.trials_of(arguments), cli.compute_of(arguments)
    teachers = ()
    if any(method_class(method).max_teachers for method in methods):
        files = teacher_files(entry.name, arguments.model_t, arguments.path_t, arguments.output)
        teachers = load_teachers(files, entry, arguments.allow_namespace)
    weighting = arguments.teacher_weighting if len(teachers) > 1 else "average"
    plans = [
        RunPlan(
            kind="student",
            dataset=entry.name,
            model=model,
            method=method,
            options=resolve_options(method, recipes[model], given_options),
            weights=weights,
            kd_T=arguments.kd_T,
            teachers=tuple(teacher.file for teacher in teachers) if method_class(method).max_teachers else (),
            recipe=recipes[model],
            precision=compute.precision,
            trial=trial,
            validation=arguments.validation,
            seed=seed,
            save_freq=arguments.save_freq,
            logit_standardization=arguments.logit_standardization,
            retrospection=retrospection,
            teacher_weighting=weighting if method_class(method).max_teachers else "average",
        )
        for trial, seed in trials
        for model in models
        for method in methods
        for weights in resolve_weights(method, arguments)
    ]
    if arguments.paper_weights:
        given = {key for key, value in vars(arguments).items() if value is not None}
        plans = with_paper_weights(plans, given)
    outcome = run_plans(
        plans,
        teachers,
        RunSettings(
            output=arguments.output,
            data_folder=arguments.data_folder,
            compute=compute,
            overwrite=arguments.overwrite,
            checkpoint_seconds=arguments.checkpoint_seconds,
            skip_refused=arguments.skip_refused,
            group_size=arguments.group_size,
        ),
    )
    return cli.exit_code(outcome)


if __name__ == "__main__":
    sys.exit(main())
