#!/usr/bin/env python3
"""Distil one or several teachers into a student, by one or several methods that share the teacher's pass."""

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

import argparse
import sys
from dataclasses import replace
from typing import get_args

from common.command import DONE, Parser, at_least, guard, make_parser, one_of_several_paths, show
from common.errors import RequestError
from dataset import DATASETS, DatasetEntry
from distiller_zoo import method_class
from distiller_zoo.teacher_mixture import Weighting
from engine import cli
from engine.checkpoints.find_weights import WeightsChoice
from engine.checkpoints.initial_weights import initial_weights, read_initial_weights
from engine.checkpoints.start_weights import StartWeights
from engine.checkpoints.teachers import Teacher, load_teachers, teacher_files
from engine.protocol.flags import Flags
from engine.protocol.listing import listing
from engine.protocol.method_help import method_pages, pages_of
from engine.protocol.options import DEFAULT_KD_T
from engine.protocol.plan import SharedSettings, make_plan
from engine.protocol.presets import with_preset
from engine.protocol.unlabelled_plan import add_unlabelled_arguments, check_taught, methods_for, plan_of, unlabelled_of
from engine.training.run_plans import run_plans
from models import MODELS
from models.by_image_size import default_student

EXAMPLES = (
    "python train_student.py --distill std",
    "python train_student.py --distill none kd crd --model_s resnet20 --trial 1 2",
    "python train_student.py --dataset folder:photos --path_t teacher.pth",
)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--list", nargs="*", metavar="NAME", help="list all names, or the pages of methods, and exit")
    parser.add_argument("--preset", metavar="NAME", help="flags by name, see --list (default: none)")
    add_pair_arguments(parser)
    cli.add_data_arguments(parser)
    add_loss_arguments(parser)
    cli.add_recipe_arguments(parser)
    cli.add_run_arguments(parser)
    further = parser.further_group("many runs")
    further.add_argument(
        "--group_size",
        type=at_least(1),
        metavar="N",
        help="runs at a time, fewer for less memory (default: all)",
    )
    further.add_argument("--skip_refused", action="store_true", help="leave out methods that refuse the pair")
    add_teaching_arguments(parser.further_group("teaching"))
    cli.add_retrospection_arguments(parser)
    add_unlabelled_arguments(parser)
    cli.add_ignored_arguments(parser)
    cli.add_option_arguments(parser)
    parser.add_pages(method_pages())
    return parser.parse_args(with_preset(sys.argv[1:] if argv is None else argv))


def add_pair_arguments(parser: Parser) -> None:
    """Add the flags of who learns from whom, by which methods."""
    group = parser.group(cli.NETWORKS)
    group.add_argument(
        "--distill",
        nargs="+",
        default=["kd"],
        metavar="NAME",
        help="methods; none: student alone; all: every one; crd+kd: both in one run (default kd)",
    )
    group.add_argument(
        "--model_s",
        nargs="+",
        metavar="NAME",
        help="students (default: of --init_s, or by image size)",
    )
    group.add_argument(
        "--init_s",
        metavar="FILE",
        help="start weights: a file, a run's folder, or timm's: pretrained (default: random ones)",
    )
    group.add_argument("--model_t", nargs="+", metavar="NAME", help="teachers, or those in --path_t (default: by data)")
    group.add_argument(
        "--path_t",
        type=one_of_several_paths,
        nargs="+",
        metavar="PATH",
        help="teacher files or run folders (default: by --model_t)",
    )


def add_loss_arguments(parser: Parser) -> None:
    """Add the flags of the losses' weights and of the KL term."""
    group = parser.group("losses")
    cli.add_weight_arguments(group)
    group.add_argument(
        "--kd_T",
        action=cli.OneOrSeveral,
        type=cli.temperature,
        default=DEFAULT_KD_T,
        metavar="FLOAT",
        help=f"temperature of the KL term (default {DEFAULT_KD_T:g})",
    )
    group.add_argument("--paper_weights", action="store_true", help="weights and options of a paper for this pair")


def add_teaching_arguments(flags: Flags) -> None:
    """Add the further flags of how the student learns from the teachers, for methods of all kinds."""
    flags.add_argument(
        "--logit_standardization", action="store_true", help="standardise logits in losses on logits (LSKD, CVPR 2024)"
    )
    flags.add_argument(
        "--teacher_weighting",
        action=cli.OneOrSeveral,
        choices=get_args(Weighting),
        default="average",
        help="how the predictions of several teachers are averaged (default average)",
    )
    cli.add_checkpoint_arguments(flags, several=True)
    flags.add_argument("--init_key", metavar="KEY", help="which weights of --init_s (default: the only ones)")


def start_of_student(arguments: argparse.Namespace, entry: DatasetEntry) -> StartWeights | None:
    """The weights of --init_s; None without it. Raises RequestError, also where there are several students."""
    if arguments.init_s is None:
        if arguments.init_key is not None:
            raise RequestError("--init_key is for the file of --init_s; give --init_s or leave it out")
        return None
    names = arguments.model_s or [None]
    if len(names) > 1:
        raise RequestError(f"--init_s is for one student, and --model_s names {len(names)}; give a command to each")
    cli.hint_at_recipe(arguments)
    choice = WeightsChoice(arguments.init_key, model_flag="--model_s", key_flag="--init_key")
    return read_initial_weights(arguments.init_s, names[0], entry, "--init_s", choice, arguments.allow_namespace)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    if arguments.list is not None:
        show(pages_of(arguments.list) if arguments.list else listing() + "\n")
        return DONE
    cli.warn_of_ignored(arguments)
    methods = cli.chosen_methods(arguments.distill)
    entry = DATASETS.find(arguments.dataset, arguments.data_folder)
    start = start_of_student(arguments, entry)
    names = arguments.model_s or [default_student(entry.image_size)] if start is None else [start.arch]
    models = list(dict.fromkeys(MODELS.canonical(name) for name in names))
    unlabelled = unlabelled_of(arguments, entry.image_size)
    methods = methods_for(unlabelled, methods, arguments.skip_refused)
    cli.check_weights_act(methods, arguments)
    variants = cli.read_variants(arguments, methods, {model: MODELS[model] for model in models})
    trials, compute = cli.trials_of(arguments), cli.compute_of(arguments)
    teachers: tuple[Teacher, ...] = ()
    if any(method_class(method).max_teachers for method in methods):
        files = teacher_files(entry.name, arguments.model_t, arguments.path_t, arguments.output, arguments.data_folder)
        teachers = load_teachers(files, entry, arguments.allow_namespace, cli.weights_choices(arguments, "--model_t"))
    shared = SharedSettings(
        kind="student",
        dataset=entry.name,
        precision=compute.precision,
        teachers=tuple(teacher.file for teacher in teachers),
        logit_standardization=arguments.logit_standardization,
        init=None if start is None else initial_weights(start, entry),
        validation=arguments.validation,
        save_freq=arguments.save_freq,
        unlabelled=plan_of(unlabelled, arguments),
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
    check_taught(plans)
    settings = cli.settings_of(arguments, compute, arguments.skip_refused, arguments.group_size)
    outcome = run_plans(plans, teachers, replace(settings, unlabelled=unlabelled), start)
    return cli.exit_code(outcome)


if __name__ == "__main__":
    script.run(main, __file__)
