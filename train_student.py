#!/usr/bin/env python3
"""Distil one or several teachers into a student, by one or several methods that share the teacher's pass."""

import argparse
import sys
from typing import get_args

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

from common.command import DONE, at_least, guard, make_parser, one_of_several_paths, show
from dataset import DATASETS
from distiller_zoo import method_class
from distiller_zoo.teacher_mixture import Weighting
from engine import cli
from engine.checkpoints.teachers import Teacher, load_teachers, teacher_files
from engine.protocol.listing import listing
from engine.protocol.options import DEFAULT_KD_T
from engine.protocol.plan import SharedSettings, make_plan
from engine.protocol.presets import preset_names, with_preset
from engine.training.run_plans import run_plans
from models import DEFAULT_STUDENT, MODELS


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--list", action="store_true", help="list methods, models, data sets, recipes and presets")
    parser.add_argument("--preset", metavar="NAME", help=f"a whole command line: {', '.join(preset_names())}")
    parser.add_argument(
        "--distill",
        nargs="+",
        default=["kd"],
        metavar="NAME",
        help="method(s); none: student alone; all: every method; crd+kd: both in one run (default kd)",
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
        help="teacher(s), trained here or published; beside --path_t: the networks in the files",
    )
    parser.add_argument("--path_t", type=one_of_several_paths, nargs="+", metavar="PATH", help="teacher checkpoint(s)")
    cli.add_weight_arguments(parser)
    cli.add_data_arguments(parser)
    cli.add_recipe_arguments(parser)
    add_teaching_arguments(parser)
    cli.add_retrospection_arguments(parser)
    group = cli.add_run_arguments(parser)
    group.add_argument(
        "--group_size",
        type=at_least(1),
        metavar="N",
        help="train at most N runs at a time, which takes less memory (default: all that can share batches)",
    )
    group.add_argument("--skip_refused", action="store_true", help="leave out methods that refuse the pair")
    cli.add_ignored_arguments(parser)
    cli.add_option_arguments(parser)
    return parser.parse_args(with_preset(sys.argv[1:] if argv is None else argv))


def add_teaching_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of how the student learns from the teachers, for methods of all kinds."""
    group = parser.add_argument_group("teaching")
    group.add_argument(
        "--kd_T",
        action=cli.OneOrSeveral,
        type=cli.temperature,
        default=DEFAULT_KD_T,
        metavar="FLOAT",
        help=f"temperature of the KL term (default {DEFAULT_KD_T:g})",
    )
    group.add_argument(
        "--logit_standardization", action="store_true", help="standardise logits in losses on logits (LSKD, CVPR 2024)"
    )
    group.add_argument(
        "--teacher_weighting",
        action=cli.OneOrSeveral,
        choices=get_args(Weighting),
        default="average",
        help="how the predictions of several teachers are averaged (default average)",
    )
    group.add_argument(
        "--paper_weights",
        action="store_true",
        help="use the weights and options that a paper gives for this pair on CIFAR-100, and print them",
    )
    group.add_argument("--allow_namespace", action="store_true", help="read *_last.pth files of RepDistiller")


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    if arguments.list:
        show(listing() + "\n")
        return DONE
    cli.warn_of_ignored(arguments)
    methods = cli.chosen_methods(arguments.distill)
    models = list(dict.fromkeys(MODELS.canonical(name) for name in arguments.model_s))
    entry = DATASETS.find(arguments.dataset, arguments.data_folder)
    cli.check_weights_act(methods, arguments)
    variants = cli.read_variants(arguments, methods, {model: MODELS[model] for model in models})
    trials, compute = cli.trials_of(arguments), cli.compute_of(arguments)
    teachers: tuple[Teacher, ...] = ()
    if any(method_class(method).max_teachers for method in methods):
        files = teacher_files(entry.name, arguments.model_t, arguments.path_t, arguments.output, arguments.data_folder)
        teachers = load_teachers(files, entry, arguments.allow_namespace)
    shared = SharedSettings(
        kind="student",
        dataset=entry.name,
        precision=compute.precision,
        teachers=tuple(teacher.file for teacher in teachers),
        logit_standardization=arguments.logit_standardization,
        validation=arguments.validation,
        save_freq=arguments.save_freq,
    )
    plans = [
        make_plan(method, model, variant.recipes[model], variant.settings(shared), trial, weights)
        for trial in trials
        for model in models
        for method in methods
        for variant in variants
        for weights in cli.weights_of(method, arguments)
    ]
    plans = cli.checked_plans(plans, arguments)
    outcome = run_plans(
        plans,
        teachers,
        cli.settings_of(arguments, compute, arguments.skip_refused, arguments.group_size),
    )
    return cli.exit_code(outcome)


if __name__ == "__main__":
    script.run(main, __file__)
