"""Recipes: how a network is trained, as typed records. `--recipe` picks a preset and flags change single values."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from common.errors import RequestError
from common.messages import cut
from common.registry import Registry
from dataset import Augmentation
from distiller_zoo.option_types import MOST_EPOCHS, Range
from models import ModelEntry


@dataclass(frozen=True)
class Recipe:
    """One training protocol.

    Attributes:
        learning_rate: peak rate; for `reference_batch` images a step where that is set, and scaled linearly.
        schedule: "step" multiplies by `lr_decay_rate` after each of `lr_decay_epochs`; "cosine" falls from
            the peak to `min_lr` after a linear warm-up from `warmup_lr`, changing at every step.
        decay_everything: weight decay on biases and norms too (as RepDistiller does), or on the weights of
            linear and convolution layers only.
        drop_last: leave out the last, smaller batch of an epoch.
        freeze_epochs: in so many epochs at first only the classifier and the method's own parts are trained; batch norm
            keeps its statistics.
        layer_decay: factor of the learning rate from each layer to the one below it (Clark et al., ELECTRA, ICLR 2020;
            Bao et al., BEiT, ICLR 2022); 1 for one rate.
        class_weights: "balanced" weighs the cross-entropy of each image by N / (K·n), for n of the N training images in
            its one of K classes, as scikit-learn does.
    """

    name: str
    summary: str
    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "adamw"]
    learning_rate: float
    weight_decay: float
    momentum: float = 0.9
    reference_batch: int | None = None
    schedule: Literal["step", "cosine"] = "step"
    lr_decay_epochs: tuple[int, ...] = ()
    lr_decay_rate: float = 0.1
    warmup_epochs: float = 0
    warmup_lr: float = 1e-6
    min_lr: float = 0.0
    label_smoothing: float = 0.0
    decay_everything: bool = True
    drop_last: bool = False
    freeze_epochs: int = 0
    layer_decay: float = 1.0
    class_weights: Literal["none", "balanced"] = "none"
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def share(self) -> float:
        """The number of epochs as a share of the preset's, at most 1."""
        return min(self.epochs / RECIPES[self.name].epochs, 1.0)

    def as_dict(self) -> dict[str, Any]:
        """All values by name, those of the augmentation nested; without those of `LATER` that have no effect."""
        return {key: value for key, value in asdict(self).items() if key not in LATER or value != LATER[key]}

    def digest(self) -> str:
        """Hash of every value, 8 hexadecimal digits; runs are comparable if it is equal."""
        values = {key: value for key, value in self.as_dict().items() if key != "summary"}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


# Fields of later versions and their values without effect, which are left out: runs of earlier versions keep their ids.
LATER = {"freeze_epochs": 0, "layer_decay": 1.0, "class_weights": "none"}

Record = TypeVar("Record", Recipe, Augmentation)

RECIPES: Registry[Recipe] = Registry("recipe")
for _recipe in (
    Recipe(
        name="repdistiller",
        summary="the protocol of the published CIFAR tables: SGD, ×0.1 at 5/8, 6/8 and 7/8 of the epochs",
        epochs=240,
        batch_size=64,
        optimizer="sgd",
        learning_rate=0.05,
        weight_decay=5e-4,
        lr_decay_epochs=(150, 180, 210),
    ),
    Recipe(
        name="deit",
        summary="for MLPs: AdamW, warm-up, cosine, mixup and cutmix, RandAugment, random erasing, label smoothing",
        epochs=300,
        batch_size=128,
        optimizer="adamw",
        learning_rate=5e-4,
        reference_batch=512,
        weight_decay=0.05,
        schedule="cosine",
        warmup_epochs=5,
        min_lr=1e-5,
        label_smoothing=0.1,
        decay_everything=False,
        drop_last=True,
        augmentation=Augmentation(rand_augment="rand-m9-mstd0.5-inc1", erasing=0.25, mixup=0.8, cutmix=1.0),
    ),
    Recipe(
        name="light",
        summary="for short runs of MLPs: AdamW at 1e-3, warm-up, cosine, crop and flip only",
        epochs=100,
        batch_size=128,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.05,
        schedule="cosine",
        warmup_epochs=5,
        min_lr=1e-5,
        label_smoothing=0.1,
        decay_everything=False,
        drop_last=True,
    ),
    Recipe(
        name="finetune",
        summary="from weights (--init): AdamW, one epoch of the classifier alone, warm-up, cosine, smaller rates below",
        epochs=30,
        batch_size=64,
        optimizer="adamw",
        learning_rate=5e-4,
        weight_decay=0.05,
        schedule="cosine",
        warmup_epochs=3,
        min_lr=1e-6,
        label_smoothing=0.1,
        decay_everything=False,
        freeze_epochs=1,
        layer_decay=0.75,
    ),
    Recipe(
        name="probe",
        summary="for a new classifier on a frozen network: SGD without weight decay, ×0.1 at each quarter",
        epochs=120,
        batch_size=64,
        optimizer="sgd",
        learning_rate=0.05,
        weight_decay=0.0,  # the published transfer figures are met without it only
        lr_decay_epochs=(30, 60, 90),
    ),
):
    RECIPES.add(_recipe.name, _recipe)

RECIPE_FIELDS = {f.name for f in fields(Recipe)} - {"name", "summary", "augmentation", "reference_batch"}
AUGMENTATION_FIELDS = {f.name for f in fields(Augmentation)}
# The default warm-up is at most this share of the run.
WARMUP_SHARE = 0.1


def resolve_recipe(name: str | None, model: ModelEntry, given: dict[str, Any]) -> Recipe:
    """The recipe of a run: a preset, by default the model's own, with the values that the user gave.

    A given value is never changed. A value that the recipe does not read (see `unread_values`) is left out, because it
    would make another run of the same thing. If only the number of epochs is given, decay epochs move in proportion and
    the warm-up is at most a tenth of the run.

    Args:
        given: values by field name of `Recipe` or `Augmentation`.

    Raises:
        RequestError: unknown recipe, or an invalid value.
    """
    preset = RECIPES[name or model.recipe]
    recipe = _with(preset, given)
    _check(recipe)
    unread = _unread(recipe)
    recipe = _with(preset, {key: value for key, value in given.items() if key not in unread})
    if "learning_rate" not in given:
        if recipe.optimizer == "sgd" and model.learning_rate is not None:
            recipe = replace(recipe, learning_rate=model.learning_rate)
        if recipe.reference_batch:
            scaled = recipe.learning_rate * recipe.batch_size / recipe.reference_batch
            recipe = replace(recipe, learning_rate=scaled)
    recipe = replace(recipe, reference_batch=None)
    if "lr_decay_epochs" not in given and recipe.epochs != preset.epochs:
        # An epoch before the first would lower the rate of the whole run.
        moved = tuple(max(1, round(epoch * recipe.epochs / preset.epochs)) for epoch in recipe.lr_decay_epochs)
        recipe = replace(recipe, lr_decay_epochs=moved)
    if recipe.schedule == "step" and not recipe.lr_decay_epochs and "lr_decay_epochs" not in given:
        raise RequestError(
            f"--schedule step lowers the rate after --lr_decay_epochs, and the recipe {preset.name} has none; give them"
        )
    if "min_lr" not in given:
        recipe = replace(recipe, min_lr=min(recipe.min_lr, recipe.learning_rate))
    if "freeze_epochs" not in given:
        recipe = replace(recipe, freeze_epochs=min(recipe.freeze_epochs, recipe.epochs - 1))
    if "warmup_epochs" not in given:
        recipe = replace(recipe, warmup_epochs=min(recipe.warmup_epochs, WARMUP_SHARE * recipe.epochs))
    if recipe.schedule == "cosine" and recipe.min_lr > recipe.learning_rate:
        raise RequestError(
            f"the learning rate would rise from its peak of {recipe.learning_rate:g} to --min_lr {recipe.min_lr:g}; "
            f"give a smaller --min_lr or a larger --learning_rate"
        )
    return recipe


def unread_values(name: str | None, model: ModelEntry, given: dict[str, Any]) -> dict[str, str]:
    """The given values that change nothing in a recipe, each with the reason ("optimizer adamw")."""
    preset = RECIPES[name or model.recipe]
    changed = _with(preset, given)
    return {
        key: instead
        for key, instead in _unread(changed).items()
        if key in given and given[key] != getattr(preset if key in RECIPE_FIELDS else preset.augmentation, key)
    }


def changed_values(recipe: Recipe, model: ModelEntry) -> dict[str, Any]:
    """The fields of a recipe that differ from its preset with the same epochs and batch size for this network."""
    usual = resolve_recipe(recipe.name, model, {"epochs": recipe.epochs, "batch_size": recipe.batch_size})
    pairs = ((recipe, usual, RECIPE_FIELDS), (recipe.augmentation, usual.augmentation, AUGMENTATION_FIELDS))
    return {
        f.name: getattr(ours, f.name)
        for ours, theirs, names in pairs
        for f in fields(ours)
        if f.name in names and getattr(ours, f.name) != getattr(theirs, f.name)
    }


def _unread(recipe: Recipe) -> dict[str, str]:
    """All values that a recipe does not read, each with the reason."""
    of_schedule = {"step": ("warmup_epochs", "warmup_lr", "min_lr"), "cosine": ("lr_decay_epochs", "lr_decay_rate")}
    unread = dict.fromkeys(of_schedule[recipe.schedule], f"schedule {recipe.schedule}")
    if recipe.optimizer == "adamw":
        unread["momentum"] = "optimizer adamw"
    mixing = recipe.augmentation
    if not (mixing.mixup or mixing.cutmix):
        unread["mix_probability"] = "mixup and cutmix off"
    if not (mixing.mixup and mixing.cutmix):
        unread["switch_probability"] = "mixup and cutmix not both on"
    return unread


def _with(preset: Recipe, given: dict[str, Any]) -> Recipe:
    """`preset` with the given values of the recipe and its augmentation."""
    recipe = _changed(preset, given, RECIPE_FIELDS)
    return replace(recipe, augmentation=_changed(preset.augmentation, given, AUGMENTATION_FIELDS))


def _changed(preset: Record, given: dict[str, Any], names: set[str]) -> Record:
    """`preset` with the given values that differ from its own: 5.0 in place of 5 would be another digest."""
    values = {key: value for key, value in given.items() if key in names and value != getattr(preset, key)}
    return replace(preset, **values)


# What a value of a recipe may be. A rate that is too large shows in the loss, and stops the run there.
RANGES = {
    "epochs": Range(1, MOST_EPOCHS),
    "batch_size": Range(1, 1_000_000),
    "learning_rate": Range(0, open_below=True),
    "weight_decay": Range(0),
    "momentum": Range(0, 1, open_above=True),
    "lr_decay_rate": Range(0, 1),
    "warmup_epochs": Range(0, MOST_EPOCHS),
    "warmup_lr": Range(0),
    "min_lr": Range(0),
    "label_smoothing": Range(0, 1, open_above=True),
    "freeze_epochs": Range(0, MOST_EPOCHS),
    "layer_decay": Range(0, 1, open_below=True),
    "mixup": Range(0, 1000),
    "cutmix": Range(0, 1000),
}


def _check(recipe: Recipe) -> None:
    """Raise RequestError for a value out of its range."""
    for key, allowed in RANGES.items():
        value = getattr(recipe if key in RECIPE_FIELDS else recipe.augmentation, key)
        if value not in allowed:
            raise RequestError(f"--{key} is {cut(value)}; give {allowed}")
    if any(not 1 <= epoch <= MOST_EPOCHS for epoch in recipe.lr_decay_epochs):
        wrong = min(recipe.lr_decay_epochs, key=lambda epoch: 1 <= epoch <= MOST_EPOCHS)
        raise RequestError(f"--lr_decay_epochs holds {cut(wrong)}; epochs count from 1 to {MOST_EPOCHS}")


def check_acts(recipe: Recipe, given: Collection[str]) -> None:
    """Raise RequestError for a given value of a resolved recipe that could never act, or acts against its purpose.

    Args:
        given: names of the values that the user gave.
    """
    epochs = recipe.epochs
    if "freeze_epochs" in given and recipe.freeze_epochs >= epochs:
        raise RequestError(
            f"--freeze_epochs {recipe.freeze_epochs} leaves none of the {epochs} epochs to train the whole network; "
            f"give fewer, or probe the network with transfer_student.py"
        )
    if "lr_decay_epochs" in given and recipe.schedule == "step" and min(recipe.lr_decay_epochs, default=0) >= epochs:
        raise RequestError(
            f"--lr_decay_epochs {','.join(map(str, recipe.lr_decay_epochs))} never comes in a run of {epochs} epochs; "
            f"give earlier ones, or leave it out: they then move with --epochs"
        )
    if "warmup_epochs" in given and recipe.schedule == "cosine" and recipe.warmup_epochs > epochs:
        raise RequestError(
            f"--warmup_epochs {recipe.warmup_epochs:g} is more than the run's {epochs} epochs; give fewer"
        )
    if "warmup_lr" in given and recipe.schedule == "cosine" and recipe.warmup_lr > recipe.learning_rate:
        raise RequestError(
            f"--warmup_lr {recipe.warmup_lr:g} is above the --learning_rate {recipe.learning_rate:g} that the warm-up "
            f"leads to; give a smaller one"
        )
