"""One flag for each value of a recipe, and the recipes that the given flags make."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

from common.command import Parser
from common.errors import RequestError
from dataset import Augmentation
from engine.protocol.flags import MAY_BE_EMPTY, OneOrSeveral, Several, add_flag, in_words
from engine.protocol.recipes import (
    AUGMENTATION_FIELDS,
    RECIPE_FIELDS,
    RECIPES,
    Recipe,
    check_acts,
    resolve_recipe,
    unread_values,
)
from models import ModelEntry

COMMON = ("epochs", "batch_size", "learning_rate")  # on the first page of help
TEXTS = {
    "epochs": "epochs",
    "batch_size": "images per step",
    "optimizer": "SGD with momentum, or AdamW",
    "learning_rate": "peak rate",
    "weight_decay": "weight decay",
    "momentum": "momentum of SGD",
    "schedule": "learning rate: steps at given epochs, or a cosine after a warm-up",
    "lr_decay_epochs": "epochs after which a step schedule lowers the rate; they move with --epochs if not given",
    "lr_decay_rate": "factor of the learning rate at each step of a step schedule",
    "warmup_epochs": "epochs of the linear warm-up of a cosine schedule; a tenth of --epochs at most if not given",
    "warmup_lr": "learning rate at the start of the warm-up",
    "min_lr": "learning rate at the end of a cosine schedule",
    "label_smoothing": "probability that is spread over all classes",
    "decay_everything": "weight decay on biases and norms too",
    "drop_last": "leave out the last, smaller batch of an epoch",
    "freeze_epochs": "epochs at first in which only the classifier is trained",
    "class_weights": "weights of the classes in the cross-entropy: balanced for classes of unequal numbers of images",
    "layer_decay": "factor of the learning rate from each layer to the one below it",
    "crop": "random crops of padded images",
    "flip": "random horizontal flips",
    "rand_augment": "RandAugment in timm's notation, such as rand-m9-mstd0.5-inc1; empty for none",
    "erasing": "probability of random erasing",
    "mixup": "alpha of mixup; 0 for none",
    "cutmix": "alpha of CutMix; 0 for none",
    "mix_probability": "probability that a batch is mixed",
    "switch_probability": "probability of CutMix where mixup and CutMix are both on",
}


def add_recipe_arguments(parser: Parser) -> None:
    """Add --recipe and a flag for each of a recipe's values; only what the user gives is in the parsed namespace."""
    group = parser.group("recipe", page="recipe")
    names = ", ".join(RECIPES)
    group.add_argument("--recipe", action=OneOrSeveral, metavar="NAME", help=f"{names} (default: network's)")
    further = parser.further_group("values of a recipe", page="recipe", summary="the other values of a recipe")
    for owner, names_of_fields in ((Recipe, RECIPE_FIELDS), (Augmentation, AUGMENTATION_FIELDS)):
        annotations = get_type_hints(owner)
        for field in fields(owner):
            if field.name in names_of_fields:
                flags = group if field.name in COMMON else further
                text = f"{TEXTS[field.name]} ({_defaults(field.name)})"
                annotation = annotations[field.name]
                if field.default == "":
                    annotation = Annotated[annotation, MAY_BE_EMPTY]
                add_flag(flags, field.name, annotation, text)


def _defaults(name: str) -> str:
    """The value in the recipes: "default 0.9", or "default 240; deit 300; light 100" where they differ."""
    recipes: dict[str, list[str]] = {}
    for recipe in RECIPES:
        owner = RECIPES[recipe] if name in RECIPE_FIELDS else RECIPES[recipe].augmentation
        recipes.setdefault(in_words(getattr(owner, name)), []).append(recipe)
    first, *others = recipes.items()
    return "; ".join([f"default {first[0]}", *(f"{', '.join(names)} {value}" for value, names in others)])


def recipes_of(arguments: argparse.Namespace, models: Mapping[str, ModelEntry]) -> dict[str, Recipe]:
    """The recipe of each network, by its name, with the values that the user gave.

    Raises:
        RequestError: as `resolve_recipe`; or a given value changes none of the recipes.
    """
    (recipes,) = recipes_of_variants([arguments], models)
    return recipes


def recipes_of_variants(
    variants: Sequence[argparse.Namespace], models: Mapping[str, ModelEntry]
) -> list[dict[str, Recipe]]:
    """As `recipes_of`, for each variant of a command that sweeps; a value that one of them reads is no mistake."""
    found, unread = [], []
    for arguments in variants:
        given = _given_values(arguments)
        found.append({name: resolve_recipe(arguments.recipe, model, given) for name, model in models.items()})
        for recipe in found[-1].values():
            check_acts(recipe, given)
        unread += [unread_values(arguments.recipe, model, given) for model in models.values()]
    for value in unread[0]:
        if all(value in of_model for of_model in unread):
            names = ", ".join(dict.fromkeys(recipe.name for recipes in found for recipe in recipes.values()))
            raise RequestError(f"--{value} changes nothing in the recipe {names} ({unread[0][value]}); leave it out")
    return found


def _given_values(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {key: value for key, value in vars(arguments).items() if key in RECIPE_FIELDS | AUGMENTATION_FIELDS}
    for key, value in (given | {"recipe": arguments.recipe}).items():
        if isinstance(value, Several):  # of a script that makes no variants
            raise RequestError(f"--{key} takes one value in this script; give {value[0]} or another")
    return given
