#!/usr/bin/env python3
"""Probe a trained network on another data set: freeze it and train a new classifier on what it sees.

The images are normalised with the constants of the data set at hand, as they are in the published transfer figures;
those are on stl10 and tinyimagenet, both scaled to 32×32 pixels.
"""

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

import argparse
from dataclasses import replace
from pathlib import Path

from common.command import guard, make_parser, say
from dataset import DATASETS
from distiller_zoo import METHODS
from engine import cli
from engine.checkpoints.run_weights import weights_file
from engine.checkpoints.start_weights import read_start_weights
from engine.protocol.plan import SharedSettings, make_plan
from engine.records.backbone import backbone_file
from engine.training.run_plans import run_plans
from models import MODELS

DEFAULT_RECIPE = "probe"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--path_s", type=Path, required=True, metavar="CKPT", help="trained network, or its run's folder"
    )
    parser.add_argument("--model_s", metavar="NAME", help="the network (default: as the checkpoint has it)")
    cli.add_checkpoint_arguments(parser)
    cli.add_data_arguments(parser, default=None)
    cli.add_recipe_arguments(parser)
    cli.add_run_arguments(parser)
    return parser.parse_args(argv)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    entry, method = DATASETS.find(arguments.dataset, arguments.data_folder), METHODS["none"]
    compute = cli.compute_of(arguments)
    (choice,) = cli.weights_choices(arguments, "--model_s")
    backbone = read_start_weights(
        weights_file(arguments.path_s, "--path_s"),
        image_size=entry.image_size,
        arch=arguments.model_s,
        allow_namespace=arguments.allow_namespace,
        choice=choice,
    )
    if backbone.note:
        say(backbone.note)
    # What suits the training of the whole network says nothing about one linear layer.
    hints = replace(MODELS[backbone.arch], recipe=DEFAULT_RECIPE, learning_rate=None)
    arch = backbone.arch
    recipes = cli.recipes_of_variants(cli.variants(arguments), {arch: hints})
    shared = SharedSettings(
        kind="probe",
        dataset=entry.name,
        precision=compute.precision,
        backbone=backbone_file(backbone),
        validation=arguments.validation,
        save_freq=arguments.save_freq,
    )
    trials = cli.trials_of(arguments)
    plans = [make_plan(method.name, arch, each[arch], shared, trial) for trial in trials for each in recipes]
    outcome = run_plans(
        cli.without_repetitions(plans),
        (),
        cli.settings_of(arguments, compute),
        start=backbone,
    )
    return cli.exit_code(outcome)


if __name__ == "__main__":
    script.run(main, __file__)
