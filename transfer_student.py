#!/usr/bin/env python3
"""Probe a trained network on another data set: freeze it and train a new classifier on what it sees.

The images are normalised with the constants of the data set at hand, as they are in the published transfer figures;
those are on stl10 and tinyimagenet, both scaled to 32×32 pixels.
"""

import sys
from dataclasses import replace
from pathlib import Path

from common.command import guard, make_parser
from dataset import DATASETS
from distiller_zoo import METHODS
from engine import cli
from engine.checkpoints.weights import read_backbone
from engine.protocol.plan import DEFAULT_KD_T, BackboneFile, RunPlan
from engine.records.run_folder import code_behind, trained_by
from engine.training.run_plans import run_plans
from engine.training.session import RunSettings
from models import MODELS

DEFAULT_RECIPE = "probe"


def parse(argv: list[str] | None):
    parser = make_parser(__doc__)
    parser.add_argument("--path_s", type=Path, required=True, metavar="CKPT", help="checkpoint of the trained network")
    parser.add_argument("--model_s", metavar="NAME", help="network, where the checkpoint does not say")
    parser.add_argument("--allow_namespace", action="store_true", help="read *_last.pth files of RepDistiller")
    cli.add_data_arguments(parser, default=None)
    cli.add_recipe_arguments(parser)
    cli.add_run_arguments(parser)
    return parser.parse_args(argv)


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    dataset, method = DATASETS.find(arguments.dataset, arguments.data_folder).name, METHODS["none"]
    compute = cli.compute_of(arguments)
    backbone = read_backbone(arguments.path_s, arch=arguments.model_s, allow_namespace=arguments.allow_namespace)
    # What suits the training of the whole network says nothing about one linear layer.
    hints = replace(MODELS[backbone.arch], recipe=DEFAULT_RECIPE, learning_rate=None)
    frozen = BackboneFile(
        backbone.arch, backbone.path, backbone.sha256, trained_by(backbone.path), code_behind(backbone.path)
    )
    plans = [
        RunPlan(
            kind="probe",
            dataset=dataset,
            model=backbone.arch,
            method=method.name,
            options={},
            weights=method.weights,
            kd_T=DEFAULT_KD_T,
            teachers=(),
            recipe=cli.recipes_of(arguments, {backbone.arch: hints})[backbone.arch],
            precision=compute.precision,
            trial=trial,
            validation=arguments.validation,
            seed=seed,
            save_freq=arguments.save_freq,
            backbone=frozen,
        )
        for trial, seed in cli.trials_of(arguments)
    ]
    outcome = run_plans(
        plans,
        (),
        RunSettings(
            output=arguments.output,
            data_folder=arguments.data_folder,
            compute=compute,
            overwrite=arguments.overwrite,
            checkpoint_seconds=arguments.checkpoint_seconds,
        ),
        backbone=backbone,
    )
    return cli.exit_code(outcome)


if __name__ == "__main__":
    sys.exit(main())
