#!/usr/bin/env python3
"""Train one network alone: a teacher, or anything else worth comparing with."""

import argparse

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

from common.command import guard, make_parser
from dataset import DATASETS
from distiller_zoo import METHODS
from engine import cli
from engine.protocol.plan import SharedSettings, make_plan
from engine.training.run_plans import run_plans
from models import MODELS
from models.published_checkpoints import DEFAULT_TEACHER


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--model", default=DEFAULT_TEACHER, metavar="NAME", help=f"the network (default {DEFAULT_TEACHER})"
    )
    cli.add_data_arguments(parser)
    cli.add_recipe_arguments(parser)
    cli.add_run_arguments(parser)
    cli.add_ignored_arguments(parser)
    return parser.parse_args(argv)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    cli.warn_of_ignored(arguments)
    model, method = MODELS.canonical(arguments.model), METHODS["none"]
    compute = cli.compute_of(arguments)
    shared = SharedSettings(
        kind="teacher",
        dataset=DATASETS.find(arguments.dataset, arguments.data_folder).name,
        precision=compute.precision,
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
    )
    return cli.exit_code(outcome)


if __name__ == "__main__":
    script.run(main, __file__)
