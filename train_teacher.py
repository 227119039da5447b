#!/usr/bin/env python3
"""Train one network alone: a teacher, or anything else worth comparing with."""

import sys
from pathlib import Path

from common.command import guard, make_parser
from dataset import DATASETS
from distiller_zoo import METHODS
from engine import cli
from engine.protocol.plan import DEFAULT_KD_T, RunPlan
from engine.training.run_plans import run_plans
from engine.training.session import RunSettings
from models import MODELS
from models.published_checkpoints import DEFAULT_TEACHER


def parse(argv: list[str] | None):
    parser = make_parser(__doc__)
    parser.add_argument("--model", default=DEFAULT_TEACHER, metavar="NAME", help="which network")
    cli.add_data_arguments(parser)
    cli.add_recipe_arguments(parser)
    cli.add_run_arguments(parser)
    cli.add_meaningless_arguments(parser)
    return parser.parse_args(argv)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    cli.mention_meaningless(arguments)
    model, method = MODELS.canonical(arguments.model), METHODS["none"]
    compute = cli.compute_of(arguments)
    plans = [
        RunPlan(
            kind="teacher",
            dataset=DATASETS.find(arguments.dataset, arguments.data_folder).name,
            model=model,
            method=method.name,
            options={},
            weights=method.weights,
            kd_T=DEFAULT_KD_T,
            teachers=(),
            recipe=cli.recipes_of(arguments, {model: MODELS[model]})[model],
            precision=compute.precision,
            trial=trial,
            validation=arguments.validation,
            seed=seed,
            save_freq=arguments.save_freq,
        )
        for trial, seed in cli.trials_of(arguments)
    ]
    outcome = run_plans(
        plans,
        (),
        RunSettings(
            output=Path(arguments.output),
            data_folder=arguments.data_folder,
            compute=compute,
            overwrite=arguments.overwrite,
            checkpoint_seconds=arguments.checkpoint_seconds,
        ),
    )
    return cli.exit_code(outcome)


if __name__ == "__main__":
    sys.exit(main())
