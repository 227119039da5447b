"""The flags that the scripts share. Those of recipes and methods are made from their definitions, in protocol/."""

import argparse
from pathlib import Path
from typing import get_args

from common.command import DONE, FAILED, Parser, at_least, say
from common.errors import RequestError
from dataset import DATASETS
from dataset.image_workers import set_num_workers
from engine.checkpoints.find_weights import WeightsChoice
from engine.device.compute import Compute, resolve_compute
from engine.device.meeting import meet
from engine.light_flags import (
    DEFAULT_DATASET,
    NETWORKS,
    add_checkpoint_arguments,
    add_compute_arguments,
    add_data_folder_arguments,
)
from engine.protocol.flags import Flags, OneOrSeveral, finite, not_negative, temperature
from engine.protocol.idle_settings import check_weights_act
from engine.protocol.method_flags import (
    add_option_arguments,
    add_weight_arguments,
    chosen_methods,
    given_method_options,
    weights_of,
)
from engine.protocol.plan import Trial
from engine.protocol.recipe_flags import add_recipe_arguments, recipes_of, recipes_of_variants
from engine.protocol.retrospection_plan import add_retrospection_arguments, retrospection_of
from engine.protocol.sweep import checked_plans, read_variants, swept_flags, variants, without_repetitions
from engine.records.run_list import check_run_list
from engine.training.failures import Outcome
from engine.training.session import CHECKPOINT_SECONDS, Overwrite, RunSettings
from models.by_image_size import MOST_COST, MOST_SMALL

__all__ = [
    "DEFAULT_DATASET",
    "NETWORKS",
    "OneOrSeveral",
    "add_checkpoint_arguments",
    "add_compilation_arguments",
    "add_compute_arguments",
    "add_data_arguments",
    "add_ignored_arguments",
    "add_option_arguments",
    "add_output_arguments",
    "add_recipe_arguments",
    "add_retrospection_arguments",
    "add_run_arguments",
    "add_weight_arguments",
    "check_weights_act",
    "checked_plans",
    "chosen_methods",
    "compute_of",
    "exit_code",
    "finite",
    "given_method_options",
    "hint_at_recipe",
    "read_variants",
    "recipes_of",
    "recipes_of_variants",
    "retrospection_of",
    "settings_of",
    "swept_flags",
    "temperature",
    "trials_of",
    "variants",
    "warn_of_ignored",
    "weights_choices",
    "weights_of",
    "without_repetitions",
]

MOST_TRIALS = 1_000_000_000  # the number of the last one; numbers of this size are seeds that belong to --seed
# Flags of RepDistiller without effect here: lines are printed and TensorBoard is written once an epoch.
IGNORED = ("print_freq", "tb_freq")


def exit_code(outcome: Outcome) -> int:
    """FAILED if a run failed, else DONE; the reason was printed when it happened."""
    return FAILED if outcome.failures else DONE


def weights_choices(arguments: argparse.Namespace, model_flag: str) -> list[WeightsChoice]:
    """Which weights of a file to take, from --weights_key and --ema; one for each key, or one for all.

    Args:
        model_flag: the script's flag that names the network in a file.
    """
    keys = arguments.weights_key
    keys = keys if isinstance(keys, list) else [keys]
    return [WeightsChoice(key, arguments.ema, model_flag) for key in keys]


def hint_at_recipe(arguments: argparse.Namespace) -> None:
    """Print which recipe suits given weights, if none was chosen."""
    if arguments.recipe is None:
        say("the recipe is the network's own, for training from scratch; --recipe finetune suits given weights")


def add_data_arguments(parser: Parser, default: str | None = DEFAULT_DATASET) -> None:
    """Add --dataset, which is required without a default, and --data_folder."""
    text = f"{', '.join(DATASETS)}, folder:NAME[@SIZE]"
    parser.group(NETWORKS).add_argument(
        "--dataset",
        default=default,
        required=default is None,
        metavar="NAME",
        help=text if default is None else f"{text} (default {default})",
    )
    add_data_folder_arguments(parser)


def add_compilation_arguments(parser: Parser) -> None:
    """Add --compile and --deterministic, which only training has."""
    group = parser.group("computation")
    group.add_argument(
        "--compile",
        default="auto",
        choices=("auto", "off", "on", "graphs"),
        metavar="NAME",
        help="auto (on for CUDA), off, on, graphs (default auto)",
    )
    further = parser.further_group("reproducibility")
    further.add_argument("--deterministic", action="store_true", help="get the same bits on one device each time")


def compute_of(arguments: argparse.Namespace) -> Compute:
    """Where and how to compute, from --device, --precision, --compile and --deterministic.

    Raises:
        RequestError: the device is missing, compilation was asked for and does not work here, or some of the processes
            that torchrun should have started are missing.
    """
    meet()
    return resolve_compute(arguments.device, arguments.precision, arguments.compile, arguments.deterministic)


def add_run_arguments(parser: Parser) -> Flags:
    """Add the flags of a training run: trials, what is held out, what is written, device; returns those of runs."""
    group = parser.group("runs")
    group.add_argument(
        "-t",
        "--trial",
        type=at_least(1, MOST_TRIALS),
        nargs="+",
        default=[1],
        metavar="N",
        help="repetitions by number, such as 1 2 3 (default 1)",
    )
    group.add_argument("--seed", type=int, metavar="N", help="seed of one trial (default: the trial's number)")
    group.add_argument(
        "--validation", type=int, default=0, metavar="N", help="hold out N training images to measure on (default 0)"
    )
    add_output_arguments(parser)
    add_compute_arguments(parser)
    add_compilation_arguments(parser)
    return group


def trials_of(arguments: argparse.Namespace) -> list[Trial]:
    """The repetitions in --trial, each once, with their seeds.

    Raises:
        RequestError: one seed was given for several trials, which would repeat each other.
    """
    trials = list(dict.fromkeys(arguments.trial))
    if arguments.seed is not None and len(trials) > 1:
        raise RequestError(f"--seed is for one trial, and --trial names {len(trials)}; leave --seed out")
    return [Trial(number, number if arguments.seed is None else arguments.seed) for number in trials]


def add_output_arguments(parser: Parser, save_freq: int = 40) -> None:
    """Add --output and --overwrite, and the flags of how often a run is saved."""
    group = parser.group("runs")
    group.add_argument(
        "--output", type=Path, default=Path("save"), metavar="FOLDER", help="root of what is written (default save)"
    )
    group.add_argument(
        "--overwrite",
        nargs="?",
        const="all",
        choices=get_args(Overwrite),
        metavar="changed",
        help="start runs anew; changed: those whose code or data has changed (default: continue)",
    )
    further = parser.further_group("continued runs and their checkpoints")
    further.add_argument(
        "--continue_changed",
        action="store_true",
        help="continue unfinished runs also if the code of their method or networks has changed",
    )
    further.add_argument(
        "--checkpoint_seconds",
        type=not_negative,
        default=CHECKPOINT_SECONDS,
        metavar="SECONDS",
        help=f"time between two checkpoints within an epoch; 0: at every step (default {CHECKPOINT_SECONDS:g})",
    )
    further.add_argument(
        "--save_freq",
        type=at_least(0),
        default=save_freq,
        metavar="N",
        help=f"keep the weights of every N-th epoch; 0: of none (default {save_freq})",
    )
    further = parser.further_group("networks beyond reason")
    further.add_argument(
        "--allow_large",
        action="store_true",
        help=f"train networks of more than {MOST_COST / 1e9:g} GMAC an image, which are refused above {MOST_SMALL} px",
    )
    further = parser.further_group("what a script reads")
    further.add_argument(
        "--run_list", type=Path, metavar="FILE", help="write the folder of each run there, a line each (default: none)"
    )


def settings_of(
    arguments: argparse.Namespace, compute: Compute, skip_refused: bool = False, group_size: int | None = None
) -> RunSettings:
    """Where runs are written and how they begin, from the flags of data and output.

    Raises:
        RequestError: an unfinished run of changed code is both to start anew and to continue, or --run_list cannot be
            written.
    """
    if arguments.overwrite and arguments.continue_changed:
        raise RequestError("--overwrite starts runs anew and --continue_changed continues them; give one of the two")
    set_num_workers(arguments.num_workers)
    if arguments.run_list is not None:
        check_run_list(arguments.run_list, arguments.output)
    return RunSettings(
        output=arguments.output,
        data_folder=arguments.data_folder,
        compute=compute,
        overwrite=arguments.overwrite,
        continue_changed=arguments.continue_changed,
        skip_refused=skip_refused,
        group_size=group_size,
        checkpoint_seconds=arguments.checkpoint_seconds,
        skip_bad_images=arguments.skip_bad_images,
        allow_large=arguments.allow_large,
        run_list=arguments.run_list,
    )


def add_ignored_arguments(parser: Parser) -> None:
    """Accept RepDistiller's flags that have no effect here, so that its command lines work; --help hides them."""
    for name in IGNORED:
        parser.add_argument(f"--{name}", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def warn_of_ignored(arguments: argparse.Namespace) -> None:
    """Print which flags without effect were given, if any."""
    given = [f"--{name}" for name in IGNORED if hasattr(arguments, name)]
    if arguments.num_workers is not None and ":" not in arguments.dataset:  # a data set in memory
        given.append("--num_workers")
    if given:
        say(f"without effect here: {', '.join(given)} (docs/other_suites.md)")
