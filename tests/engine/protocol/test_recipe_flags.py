"""Flags of recipes: each value has one with a text, and a given value that changes nothing is refused."""

import pytest

import train_student
from common.errors import RequestError
from engine.protocol.recipe_flags import TEXTS, recipes_of
from engine.protocol.recipes import AUGMENTATION_FIELDS, RECIPE_FIELDS
from models import MODELS


def recipes(*argv, models=("resnet20",)):
    return recipes_of(train_student.parse(list(argv)), {name: MODELS[name] for name in models})


def test_every_value_has_a_text():
    assert TEXTS.keys() == RECIPE_FIELDS | AUGMENTATION_FIELDS


def test_given_values_are_in_the_recipe_of_each_network():
    found = recipes("--epochs", "3", "--no-flip", "--lr_decay_epochs", "1,2", models=("resnet20", "mixer_pico"))
    assert {name: recipe.epochs for name, recipe in found.items()} == {"resnet20": 3, "mixer_pico": 3}
    assert found["resnet20"].lr_decay_epochs == (1, 2)
    assert not found["resnet20"].augmentation.flip


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--min_lr", "1e-4"], "schedule step"),
        (["--recipe", "light", "--momentum", "0.8"], "optimizer adamw"),
        (["--mixup", "0.2", "--switch_probability", "0.1"], "cutmix"),
    ],
)
def test_a_value_that_changes_nothing_is_refused(argv, reason):
    with pytest.raises(RequestError) as refusal:
        recipes(*argv)
    assert argv[-2] in str(refusal.value)
    assert reason in str(refusal.value)


def test_a_value_that_changes_one_of_the_recipes_is_accepted():
    found = recipes("--min_lr", "1e-6", models=("resnet20", "mixer_pico"))
    assert found["mixer_pico"].min_lr == 1e-6
