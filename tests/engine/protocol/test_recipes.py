"""Recipes: published values, learning rates, given values that are kept, and invalid ones that are refused."""

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import RequestError
from dataset import Augmentation
from engine.protocol.recipes import AUGMENTATION_FIELDS, RECIPE_FIELDS, RECIPES, Recipe, resolve_recipe, unread_values
from engine.training.optimizer import learning_rate
from models import MODELS

CNN, MLP = MODELS["resnet8"], MODELS["mixer_pico"]


def resolve(name=None, model=CNN, **values):
    return resolve_recipe(name, model, values)


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(1, 0.05), (150, 0.05), (151, 0.005), (180, 0.005), (181, 5e-4), (210, 5e-4), (211, 5e-5), (240, 5e-5)],
)
def test_repdistiller_rates(epoch, rate):
    recipe = resolve("repdistiller")
    for progress in (0, 0.5, 0.99):
        assert learning_rate(recipe, epoch, progress) == pytest.approx(rate, rel=1e-12)


def test_repdistiller_values():
    recipe = resolve("repdistiller")
    found = (recipe.epochs, recipe.batch_size, recipe.optimizer, recipe.weight_decay, recipe.momentum)
    assert found == (240, 64, "sgd", 5e-4, 0.9)
    assert recipe.decay_everything
    assert not recipe.drop_last
    assert recipe.augmentation == Augmentation()


@pytest.mark.parametrize("name", MODELS)
def test_rate_of_small_networks(name):
    expected = 0.01 if name in ("MobileNetV2", "ShuffleV1", "ShuffleV2") else 0.05
    assert resolve("repdistiller", MODELS[name]).learning_rate == expected
    assert resolve("repdistiller", MODELS[name], learning_rate=0.05).learning_rate == 0.05


@pytest.mark.parametrize(
    ("epochs", "moved"), [(240, (150, 180, 210)), (480, (300, 360, 420)), (24, (15, 18, 21)), (8, (5, 6, 7))]
)
def test_decay_epochs_move_in_proportion(epochs, moved):
    assert resolve(epochs=epochs).lr_decay_epochs == moved
    assert resolve(epochs=epochs, lr_decay_epochs=(3, 4)).lr_decay_epochs == (3, 4)


@pytest.mark.parametrize("epochs", range(1, 9))
@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.schedule == "step"])
def test_a_short_run_begins_at_the_full_rate(name, epochs):
    recipe = resolve(name, epochs=epochs)
    assert learning_rate(recipe, 1) == recipe.learning_rate


def test_deit_rates():
    recipe = resolve("deit", MLP)
    assert recipe.batch_size == 128
    assert recipe.learning_rate == pytest.approx(1.25e-4)
    assert learning_rate(recipe, 1) == pytest.approx(1e-6)
    assert learning_rate(recipe, 6) == pytest.approx(1.25e-4)
    assert learning_rate(recipe, 300, 1) == pytest.approx(1e-5)
    halfway = learning_rate(recipe, 6 + 147, 0.5)
    assert halfway == pytest.approx((1.25e-4 + 1e-5) / 2)


def test_deit_rate_follows_the_batch_unless_given():
    assert resolve("deit", MLP, batch_size=1024).learning_rate == pytest.approx(1e-3)
    assert resolve("deit", MLP, batch_size=1024, learning_rate=3e-4).learning_rate == 3e-4


@settings(max_examples=60)
@given(epochs=st.integers(1, 400), batch=st.integers(64, 2048), places=st.lists(st.floats(0, 1), min_size=2))
def test_cosine_rises_then_falls(epochs, batch, places):
    recipe = resolve("deit", MLP, epochs=epochs, batch_size=batch)

    def rate(time):
        epoch = min(int(time), epochs - 1)
        return learning_rate(recipe, epoch + 1, time - epoch)

    times = sorted(place * epochs for place in places)
    rising = [rate(time) for time in times if time <= recipe.warmup_epochs]
    falling = [rate(time) for time in times if time >= recipe.warmup_epochs]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert all(min(recipe.warmup_lr, recipe.min_lr) <= r <= recipe.learning_rate * (1 + 1e-9) for r in map(rate, times))
    assert recipe.warmup_epochs <= 0.1 * epochs


VALUES = {
    "epochs": st.integers(1, 500),
    "batch_size": st.integers(1, 4096),
    "optimizer": st.sampled_from(["sgd", "adamw"]),
    "learning_rate": st.floats(1e-3, 10),
    "weight_decay": st.floats(0, 1),
    "momentum": st.floats(0, 0.999),
    "schedule": st.sampled_from(["step", "cosine"]),
    "lr_decay_epochs": st.lists(st.integers(1, 500), max_size=4).map(tuple),
    "lr_decay_rate": st.floats(0, 1),
    "warmup_epochs": st.floats(0, 50),
    "warmup_lr": st.floats(0, 1e-3),
    "min_lr": st.floats(0, 1e-3),
    "label_smoothing": st.floats(0, 0.9),
    "decay_everything": st.booleans(),
    "drop_last": st.booleans(),
    "freeze_epochs": st.integers(0, 500),
    "layer_decay": st.floats(0.01, 1),
    "class_weights": st.sampled_from(["none", "balanced"]),
    "crop": st.booleans(),
    "flip": st.booleans(),
    "rand_augment": st.sampled_from(["", "rand-m9-mstd0.5-inc1", "rand-m5-inc1"]),
    "erasing": st.floats(0, 1),
    "mixup": st.just(0.0) | st.floats(0, 2),
    "cutmix": st.just(0.0) | st.floats(0, 2),
    "mix_probability": st.floats(0, 1),
    "switch_probability": st.floats(0, 1),
}


def value_of(recipe, key):
    return getattr(recipe if key in RECIPE_FIELDS else recipe.augmentation, key)


def unread_by_hand(name, given):
    """Given values that change nothing: not the preset's own, and of no use to such a recipe."""
    preset = {key: value_of(RECIPES[name], key) for key in VALUES}
    values = preset | given
    mixup, cutmix, cosine = values["mixup"] > 0, values["cutmix"] > 0, values["schedule"] == "cosine"
    unread = {"lr_decay_epochs", "lr_decay_rate"} if cosine else {"warmup_epochs", "warmup_lr", "min_lr"}
    unread |= {"momentum"} if values["optimizer"] == "adamw" else set()
    unread |= set() if mixup and cutmix else {"switch_probability"}
    unread |= set() if mixup or cutmix else {"mix_probability"}
    return {key for key in unread & given.keys() if given[key] != preset[key]}


def test_every_value_is_tested():
    assert VALUES.keys() == RECIPE_FIELDS | AUGMENTATION_FIELDS


@settings(max_examples=100)
@given(name=st.sampled_from(list(RECIPES)), model=st.sampled_from(list(MODELS)), data=st.data())
def test_a_given_value_is_kept(name, model, data):
    keys = data.draw(st.sets(st.sampled_from(sorted(VALUES)))) | {"learning_rate", "lr_decay_epochs"}
    values = {key: data.draw(VALUES[key]) for key in sorted(keys)}
    recipe = resolve(name, MODELS[model], **values)
    unread = unread_by_hand(name, values)
    assert unread_values(name, MODELS[model], values).keys() == unread
    assert {key: value_of(recipe, key) for key in values if key not in unread} == {
        key: value for key, value in values.items() if key not in unread
    }


@settings(max_examples=100)
@given(name=st.sampled_from(list(RECIPES)), data=st.data())
def test_a_value_that_nothing_reads_makes_no_other_recipe(name, data):
    values = data.draw(st.fixed_dictionaries(VALUES))
    unread = unread_by_hand(name, values)
    assert unread_values(name, MLP, values).keys() == unread
    shape = {key: values[key] for key in ("optimizer", "schedule", "mixup", "cutmix", "lr_decay_epochs")}
    shape["learning_rate"] = 0.1
    for key in unread - shape.keys():
        assert resolve(name, MLP, **shape, **{key: values[key]}).digest() == resolve(name, MLP, **shape).digest(), key


def test_a_constant_rate_is_asked_for():
    assert resolve("deit", MLP, schedule="step", lr_decay_epochs=()).lr_decay_epochs == ()
    with pytest.raises(RequestError) as refusal:
        resolve("deit", MLP, schedule="step")
    assert "--lr_decay_epochs" in str(refusal.value)


@settings(max_examples=100)
@given(name=st.sampled_from(list(RECIPES)), key=st.sampled_from(sorted(VALUES)), data=st.data())
def test_digest_changes_with_every_value(name, key, data):
    recipe = replace(RECIPES[name], reference_batch=None)
    own, value = value_of(recipe, key), data.draw(VALUES[key])
    value = own if value == own else value  # 0 and 0.0 are one value, which `resolve_recipe` sees to
    if key in RECIPE_FIELDS:
        other = replace(recipe, **{key: value})
    else:
        other = replace(recipe, augmentation=replace(recipe.augmentation, **{key: value}))
    assert (other.digest() == recipe.digest()) == (value == own)


def test_digest_knows_the_name_but_not_the_summary():
    recipe = RECIPES["deit"]
    assert replace(recipe, summary="other words").digest() == recipe.digest()
    assert replace(recipe, name="other").digest() != recipe.digest()


@pytest.mark.parametrize("name", RECIPES)
def test_giving_a_preset_its_own_values_changes_nothing(name):
    """As floats, as the command line gives them: 5.0 for 5 is the same protocol."""
    recipe = resolve(name, MLP)
    hints = {f.name: f.type for f in (*fields(Recipe), *fields(Augmentation))}
    values = {key: value_of(recipe, key) for key in VALUES}
    values = {key: float(value) if hints[key] is float else value for key, value in values.items()}
    assert resolve(name, MLP, **values).digest() == recipe.digest()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", -3),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", -0.1),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("weight_decay", -1e-4),
        ("weight_decay", math.nan),
        ("momentum", -0.1),
        ("momentum", 1.5),
        ("lr_decay_rate", -0.1),
        ("lr_decay_epochs", (0, 10)),
        ("warmup_epochs", -1.0),
        ("warmup_lr", -1.0),
        ("min_lr", -1.0),
        ("label_smoothing", 1.0),
        ("label_smoothing", math.nan),
        ("erasing", 1.5),
        ("mixup", -1.0),
        ("rand_augment", "nonsense"),
    ],
)
def test_invalid_values_are_refused_by_name(key, value):
    with pytest.raises(RequestError) as refusal:
        resolve("deit", MLP, **{key: value})
    assert key.replace("rand_augment", "augmentation") in str(refusal.value)


def test_a_rate_that_rises_at_the_end_is_refused():
    with pytest.raises(RequestError) as refusal:
        resolve("deit", MLP, learning_rate=1e-6, min_lr=1e-5)
    assert "--min_lr" in str(refusal.value)


def test_the_presets_last_rate_gives_way_to_a_smaller_peak():
    recipe = resolve("deit", MLP, learning_rate=1e-6)
    assert (recipe.learning_rate, recipe.min_lr) == (1e-6, 1e-6)


def test_unknown_recipe():
    with pytest.raises(RequestError) as refusal:
        resolve("diet")
    assert all(name in str(refusal.value) for name in ("'diet'", "deit"))
