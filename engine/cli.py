"""The command line that the scripts share. Flags of recipes and methods come from their definitions."""

import argparse
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from common.command import DONE, FAILED, at_least, say
from common.errors import RequestError
from dataset import DATASETS, Augmentation
from distiller_zoo import METHODS, Epochs, canonical_method, option_texts, options_of
from engine.device.compute import Compute, resolve_compute
from engine.protocol.presets import preset_names, read_preset
from engine.protocol.recipes import AUGMENTATION_FIELDS, RECIPE_FIELDS, RECIPES, Recipe, resolve_recipe, unread_values
from engine.training.failures import Outcome
from engine.training.retrospection import RetrospectionPlan
from engine.training.session import CHECKPOINT_SECONDS
from models import MODELS, ModelEntry

DEFAULT_DATASET = "cifar100"
# Of RepDistiller: lines are printed and TensorBoard written once an epoch, and no data loader has workers to count.
MEANINGLESS = ("print_freq", "tb_freq", "num_workers")


def exit_code(outcome: Outcome) -> int:
    """The exit code of a group: FAILED where a run of it failed; what happened was printed when it did."""
    return FAILED if outcome.failures else DONE


def add_data_arguments(parser: argparse.ArgumentParser, default: str | None = DEFAULT_DATASET) -> None:
    """Which data set, and where it lies; without a default it must be named."""
    names = f"one of {', '.join(DATASETS)}, or folder:NAME[@SIZE] for images in folders, such as ImageNet"
    parser.add_argument("--dataset", default=default, required=default is None, metavar="NAME", help=names)
    parser.add_argument(
        "--data_folder", type=Path, default=Path("data"), metavar="FOLDER", help="where data sets lie or are put"
    )


def add_compute_arguments(parser: argparse.ArgumentParser, precision: str = "auto") -> None:
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--precision",
        default=precision,
        choices=("auto", "bf16", "fp32"),
        help=f"auto: bf16 where the hardware computes in it, else fp32 (default {precision})",
    )


def add_compilation_arguments(parser: argparse.ArgumentParser) -> None:
    """How training computes, beyond `add_compute_arguments`."""
    parser.add_argument(
        "--compile",
        default="auto",
        choices=("auto", "off", "on", "graphs"),
        help="graphs: CUDA graphs; auto: on for CUDA",
    )
    parser.add_argument("--deterministic", action="store_true", help="the same bits on the same device each time")


def compute_of(arguments: argparse.Namespace) -> Compute:
    """What both were answered; raises RequestError where it is not there."""
    return resolve_compute(arguments.device, arguments.precision, arguments.compile, arguments.deterministic)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Where and how it computes, which repetition it is, and what is written."""
    add_compute_arguments(parser)
    add_compilation_arguments(parser)
    parser.add_argument(
        "-t", "--trial", type=at_least(1), nargs="+", default=[1], metavar="N", help="which repetitions, such as 1 2 3"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="default: the trial's number")
    parser.add_argument(
        "--validation", type=int, default=0, metavar="N", help="hold out N training images and measure on them too"
    )
    add_output_arguments(parser)


def trials_of(arguments: argparse.Namespace) -> list[tuple[int, int]]:
    """(trial, seed) of each repetition that is asked for.

    Raises:
        RequestError: one seed for several, which would repeat each other.
    """
    trials = list(dict.fromkeys(arguments.trial))
    if arguments.seed is not None and len(trials) > 1:
        raise RequestError(f"--seed is for one trial, and --trial names {len(trials)}; leave --seed out")
    return [(trial, trial if arguments.seed is None else arguments.seed) for trial in trials]


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("save"), metavar="FOLDER", help="root of what is written")
    parser.add_argument("--overwrite", action="store_true", help="start anew where a run is there")
    parser.add_argument(
        "--checkpoint_seconds",
        type=finite,
        default=CHECKPOINT_SECONDS,
        metavar="SECONDS",
        help=f"save the state within an epoch too, this often (default {CHECKPOINT_SECONDS:g}; 0: at every step)",
    )
    parser.add_argument(
        "--save_freq", type=at_least(0), default=40, metavar="N", help="keep the weights of every N-th epoch; 0: none"
    )


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag for each value of a recipe; only what the user gives ends up in the namespace."""
    group = parser.add_argument_group("recipe", "a preset, and single values that change it")
    group.add_argument(
        "--recipe", metavar="NAME", help=f"one of {', '.join(RECIPES)}; by default the one that suits the network"
    )
    for owner, names in ((Recipe, RECIPE_FIELDS), (Augmentation, AUGMENTATION_FIELDS)):
        hints = get_type_hints(owner)
        for field in fields(owner):
            if field.name in names:
                _add_flag(group, field.name, hints[field.name])


def add_retrospection_arguments(parser: argparse.ArgumentParser) -> None:
    """LWR as the base loss; off by default."""
    default = RetrospectionPlan()
    group = parser.add_argument_group("learning with retrospection (LWR)", "the run's own past predictions as labels")
    group.add_argument("--lwr", type=int, metavar="K", help=f"refresh them every K epochs ({default.k} in the paper)")
    group.add_argument(
        "--lwr_rate", type=finite, default=default.rate, metavar="FLOAT", help="by which the labels lose weight"
    )
    group.add_argument("--lwr_T", type=finite, default=default.temperature, metavar="FLOAT", help="temperature")


def retrospection_of(arguments: argparse.Namespace, recipes: Iterable[Recipe]) -> RetrospectionPlan | None:
    """What was asked for; raises RequestError where it makes no sense."""
    if arguments.lwr is None:
        return None
    if arguments.lwr < 1:
        raise RequestError(f"--lwr is {arguments.lwr}; it must be 1 or more epochs")
    if not 0 <= arguments.lwr_rate <= 1:
        raise RequestError(f"--lwr_rate is {arguments.lwr_rate}; it must lie in [0, 1]")
    if arguments.lwr_T <= 0:
        raise RequestError(f"--lwr_T is {arguments.lwr_T}; it must be positive")
    for recipe in recipes:
        if recipe.augmentation.mixup or recipe.augmentation.cutmix:
            raise RequestError(
                f"--lwr keeps a prediction for each image, and recipe {recipe.name} mixes images; "
                f"add --mixup 0 --cutmix 0 or choose --recipe light"
            )
    return RetrospectionPlan(arguments.lwr, arguments.lwr_rate, arguments.lwr_T)


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag for each option of each method; to be called when the parser has all others.

    Raises:
        RequestError: an option is called like another flag.
    """
    group = parser.add_argument_group("method options", "each belongs to the methods named beside it")
    owners: dict[str, list[str]] = {}
    for method in METHODS:
        for option in options_of(method):
            owners.setdefault(option, []).append(method)
    for option, methods in owners.items():
        parameter = options_of(methods[0])[option]
        told = option_texts(METHODS[methods[0]]).get(option)
        text = f"{', '.join(methods)}{f': {told}' if told else ''} (default {parameter.default})"
        try:
            _add_flag(group, option, parameter.annotation, text.replace("%", "%%"))
        except argparse.ArgumentError:
            cls = METHODS[methods[0]]
            raise RequestError(
                f"{cls.__module__.replace('.', '/')}.py: {cls.__name__} has an option {option}, which is a flag of the "
                f"suite; rename it, {methods[0]}_{option} say"
            ) from None


def _add_flag(group, name: str, hint: Any, text: str | None = None) -> None:
    arguments: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text}
    if hint is bool:
        arguments["action"] = argparse.BooleanOptionalAction
    elif get_origin(hint) is Literal:
        arguments["choices"] = get_args(hint)
        if any("," in str(choice) for choice in get_args(hint)):  # {1,1,2} could be anything
            arguments["metavar"] = " | ".join(map(str, get_args(hint)))
    elif get_origin(hint) is tuple:
        arguments |= {"type": integers, "metavar": "N,N,..."}
    elif hint is float:
        arguments |= {"type": finite, "metavar": "FLOAT"}
    elif hint is Epochs:
        arguments |= {"type": int, "metavar": "EPOCHS"}
    else:
        arguments |= {"type": hint, "metavar": hint.__name__.upper()}
    group.add_argument(f"--{name}", **arguments)


def finite(text: str) -> float:
    """A number from the command line; "nan" and "inf" are none."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return number


def integers(text: str) -> tuple[int, ...]:
    """Whole numbers from the command line, with commas between them; none where the text is empty."""
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of integers such as 150,180,210") from None


def chosen_methods(names: Iterable[str]) -> list[str]:
    """The methods behind --distill, each once; "all" stands for every registered one. Raises RequestError."""
    every = [name for given in names for name in (METHODS if given == "all" else [given])]
    return list(dict.fromkeys(canonical_method(name) for name in every))


class _Meaningless(argparse.Action):
    """Notes that a flag was given, and forgets its value."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.meaningless = [*getattr(namespace, "meaningless", []), option_string]


def add_meaningless_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of RepDistiller that change nothing here: its command lines work, and --help does not show these."""
    for name in MEANINGLESS:
        parser.add_argument(f"--{name}", action=_Meaningless, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def mention_meaningless(arguments: argparse.Namespace) -> None:
    """Say which of them were given."""
    if given := getattr(arguments, "meaningless", []):
        say(f"without effect here: {', '.join(dict.fromkeys(given))} (docs/other_suites.md)")


def recipes_of(arguments: argparse.Namespace, models: Mapping[str, ModelEntry]) -> dict[str, Recipe]:
    """The recipe of each of these networks, by name, with the values that the user gave.

    Raises:
        RequestError: as `resolve_recipe`; or a given value that changes none of them.
    """
    given = _given_recipe_values(arguments)
    recipes = {name: resolve_recipe(arguments.recipe, model, given) for name, model in models.items()}
    unread = [unread_values(arguments.recipe, model, given) for model in models.values()]
    for value in given:
        if all(value in of_model for of_model in unread):
            names = ", ".join(dict.fromkeys(recipe.name for recipe in recipes.values()))
            raise RequestError(f"--{value} changes nothing in the recipe {names} ({unread[0][value]}); leave it out")
    return recipes


def _given_recipe_values(arguments: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(arguments).items() if key in RECIPE_FIELDS | AUGMENTATION_FIELDS}


def given_method_options(arguments: argparse.Namespace, methods: list[str]) -> dict[str, Any]:
    """The options that the user gave, by name.

    Raises:
        RequestError: an option that none of the methods has.
    """
    known = {option for method in METHODS for option in options_of(method)}
    given = {key: value for key, value in vars(arguments).items() if key in known}
    for option in given:
        if not any(option in {name.split(".")[-1] for name in options_of(method)} for method in methods):
            owners = ", ".join(method for method in METHODS if option in options_of(method))
            raise RequestError(f"--{option} is an option of {owners}, not of {', '.join(methods)}; leave it out")
    return given


def listing() -> str:
    """All methods, models, data sets, recipes and presets, a line each."""
    lines = ["methods (--distill)"]
    aliases = {name: ", ".join(METHODS.aliases_of(name)) for name in sorted(METHODS)}
    shown = {name: f"{name} ({others})" if others else name for name, others in aliases.items()}
    for name, text in shown.items():
        method, w = METHODS[name], METHODS[name].weights
        weights = f"-r {w.gamma:g} -a {w.alpha:g} -b {w.beta:g}"
        lines.append(f"  {text:<{max(map(len, shown.values()))}}  {weights}  {method.paper}")
    lines.append("models (--model_s, --model_t)")
    lines += [f"  {name:<24} {entry.summary}" for name, entry in MODELS.items()]
    lines.append("data sets (--dataset)")
    lines += [f"  {name:<24} {entry.summary}" for name, entry in DATASETS.items()]
    lines.append(f"  {'folder:NAME[@SIZE]':<24} photographs in DATA_FOLDER/NAME/train/CLASS/ and val/CLASS/; 224 px")
    lines.append("recipes (--recipe)")
    lines += [f"  {name:<24} {recipe.summary}" for name, recipe in RECIPES.items()]
    lines.append("presets (--preset)")
    lines += [f"  {name:<24} {read_preset(name).summary}" for name in preset_names()]
    return "\n".join(lines)
