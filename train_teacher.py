#!/usr/bin/env python3
"""Train one network alone: a teacher, or anything else worth comparing with."""

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

import argparse

from common.command import guard, make_parser
from dataset import DATASETS
from distiller_zoo import METHODS
from engine import cli
from engine.checkpoints.initial_weights import initial_weights, read_initial_weights
from engine.protocol.plan import SharedSettings, make_plan
from engine.training.run_plans import run_plans
from models import MODELS
from models.by_image_size import MOST_SMALL, TEACHER_OF_PHOTOGRAPHS, default_teacher
from models.published_checkpoints import DEFAULT_TEACHER


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--model",
        metavar="NAME",
        help=f"the network (default: that of --init, else {DEFAULT_TEACHER}, or {TEACHER_OF_PHOTOGRAPHS} above "
        f"{MOST_SMALL} px)",
    )
    parser.add_argument(
        "--init",
        metavar="FILE",
        help="start from the weights of a file or a run's folder, or from timm's: pretrained (default: random weights)",
    )
    cli.add_checkpoint_arguments(parser.further_group("the file of --init"))
    cli.add_data_arguments(parser)
    cli.add_recipe_arguments(parser)
    cli.add_run_arguments(parser)
    cli.add_ignored_arguments(parser)
    return parser.parse_args(argv)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    cli.warn_of_ignored(arguments)
    method, compute = METHODS["none"], cli.compute_of(arguments)
    entry = DATASETS.find(arguments.dataset, arguments.data_folder)
    start, name = None, arguments.model
    if arguments.init is not None:
        (choice,) = cli.weights_choices(arguments, "--model")
        start = read_initial_weights(arguments.init, name, entry, "--init", choice, arguments.allow_namespace)
        name = start.arch
        cli.hint_at_recipe(arguments)
    model = MODELS.canonical(name or default_teacher(entry.image_size))
    shared = SharedSettings(
        kind="teacher",
        dataset=entry.name,
        precision=compute.precision,
        init=None if start is None else initial_weights(start, entry),
        validation=arguments.validation,
        save_freq=arguments.save_freq,
    )
    recipes = cli.recipes_of_variants(cli.variants(arguments), {model: MODELS[model]})
    trials = cli.trials_of(arguments)
    plans = [make_plan(method.name, model, each[model], shared, trial) for trial in trials for each in recipes]
    outcome = run_plans(
        cli.without_repetitions(plans),
        (),
        cli.settings_of(arguments, compute),
        start,
    )
    return cli.exit_code(outcome)


if __name__ == "__main__":
    script.run(main, __file__)
