"""Recipes: published values, given values that stand, refused nonsense, and optimizers as torch has them."""

import contextlib
import copy
import math
from dataclasses import fields, replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.errors import RequestError
from dataset import Augmentation
from distiller_zoo import METHODS, Pair, create_method
from engine.protocol.recipes import AUGMENTATION_FIELDS, RECIPE_FIELDS, RECIPES, Recipe, resolve_recipe, unread_values
from engine.training.optimizer import learning_rate, make_optimizer
from models import MODELS, create_model

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


@settings(max_examples=60, deadline=None)
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


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(list(RECIPES)), model=st.sampled_from(list(MODELS)), data=st.data())
def test_a_given_value_stands(name, model, data):
    keys = data.draw(st.sets(st.sampled_from(sorted(VALUES)))) | {"learning_rate", "lr_decay_epochs"}
    values = {key: data.draw(VALUES[key]) for key in sorted(keys)}
    recipe = resolve(name, MODELS[model], **values)
    unread = unread_by_hand(name, values)
    assert unread_values(name, MODELS[model], values).keys() == unread
    assert {key: value_of(recipe, key) for key in values if key not in unread} == {
        key: value for key, value in values.items() if key not in unread
    }


@settings(max_examples=100, deadline=None)
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
    with pytest.raises(RequestError, match="--lr_decay_epochs"):
        resolve("deit", MLP, schedule="step")


@settings(max_examples=100, deadline=None)
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
def test_nonsense_is_refused(key, value):
    with pytest.raises(RequestError, match=key.replace("rand_augment", "augmentation")):
        resolve("deit", MLP, **{key: value})


def test_a_rate_that_rises_at_the_end_is_refused():
    with pytest.raises(RequestError, match="--min_lr"):
        resolve("deit", MLP, learning_rate=1e-6, min_lr=1e-5)


def test_the_presets_last_rate_gives_way_to_a_smaller_peak():
    recipe = resolve("deit", MLP, learning_rate=1e-6)
    assert (recipe.learning_rate, recipe.min_lr) == (1e-6, 1e-6)


def test_unknown_recipe():
    with pytest.raises(RequestError, match=r"unknown recipe 'diet'; did you mean deit"):
        resolve("diet")


# --- optimizers ----------------------------------------------------------------------------------


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)
        self.along = nn.Conv1d(1, 1, 3, padding=1)
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.scale = nn.Parameter(torch.randn(2))

    def forward(self, x):
        x = self.norm(self.conv(x)).mean((2, 3)) + self.token.flatten()
        return self.fc(self.along(x[:, None])[:, 0]) * self.scale


def walk(module, optimizer, rates):
    generator = torch.Generator().manual_seed(3)
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = torch.randn(6, 3, 5, 5, generator=generator)
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["repdistiller", "deit"])
def test_optimizer_is_that_of_torch(name):
    torch.manual_seed(0)
    ours = Toy()
    plain = copy.deepcopy(ours)
    recipe = resolve(name, MLP)
    if name == "repdistiller":
        reference = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, foreach=False)
    else:
        decayed = [plain.conv.weight, plain.fc.weight, plain.along.weight]
        rest = [p for p in plain.parameters() if all(p is not d for d in decayed)]
        groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
        reference = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, foreach=False)
    optimizer = make_optimizer(recipe, [ours])
    for rate in (0.05, 0.05, 0.01, 0.001):
        walk(ours, optimizer, [rate])
        walk(plain, reference, [rate])
        for found, expected in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_student_and_method_are_trained_but_not_what_is_frozen():
    student, method = Toy(), nn.Linear(2, 2)
    student.fc.bias.requires_grad_(False)
    optimizer = make_optimizer(resolve("deit", MLP), [student, method])
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    expected = [p for p in (*student.parameters(), *method.parameters()) if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in expected}
    assert len(trained) == len(expected)


def by_decay(module):
    """The names of the parameters that decay and of those that don't, in the optimizer's order."""
    known = {id(p): name.removeprefix("net.") for name, p in module.named_parameters()}
    groups = make_optimizer(resolve("deit", MLP), [module]).param_groups
    assert [group["weight_decay"] for group in groups] == [0.05, 0]
    return tuple([known[id(p)] for p in group["params"]] for group in groups)


def by_shape(module):
    """Finished runs and checkpoints have these groups: of matrices and stacks of kernels, and of all else."""
    shapes = [(name, p.ndim in (2, 4)) for name, p in module.named_parameters() if p.requires_grad]
    return [name for name, matrix in shapes if matrix], [name for name, matrix in shapes if not matrix]


def shaped(name):
    """The network for images that it takes, without weights."""
    with torch.device("meta"):
        try:
            return create_model(name, 10, 32)
        except RequestError:
            return create_model(name, 10, 224)


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].family != "timm"])
def test_groups_of_networks_stay(name):
    network = shaped(name)
    assert by_decay(network) == by_shape(network)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_groups_of_methods_stay(name):
    built = 0
    for teacher in ("resnet8x4", "mixer_pico"):
        for student in ("resnet8", "resnet8x4", "mixer_pico", "deit_pico_distilled"):
            pair = Pair(shapes_of(student), (shapes_of(teacher),), 100)
            with contextlib.suppress(RequestError):  # of pairs that the method refuses
                method = create_method(name, pair, {})
                built += 1
                if any(p.requires_grad for p in method.parameters()):
                    assert by_decay(method) == by_shape(method)
    assert built


@cache
def shapes_of(name):
    return create_model(name, 10, 16).feature_shapes()


@pytest.mark.parametrize(
    ("name", "decaying", "other"),
    [
        ("swin_tiny_patch4_window7_224", "head.fc.weight", "layers.0.blocks.0.attn.relative_position_bias_table"),
        ("pit_ti_224", "transformers.0.blocks.0.attn.qkv.weight", "pos_embed"),
        ("tiny_vit_5m_224", "stages.1.blocks.0.attn.qkv.weight", "stages.1.blocks.0.attn.attention_biases"),
        ("visformer_tiny", "stage2.0.mlp.conv1.weight", "pos_embed2"),
        ("test_nfnet", "stem.conv1.weight", "stem.conv1.gain"),
        ("ecaresnet26t", "layer1.0.se.conv.weight", "layer1.0.bn1.weight"),
    ],
)
def test_networks_of_timm_decay_by_what_a_parameter_is(name, decaying, other):
    """Tables of positions and scales have the shapes of weights; weights of one-dimensional convolutions have not."""
    pytest.importorskip("timm")
    network = create_model(f"timm:{name}", 10, 64)
    weights, others = by_decay(network)
    assert decaying in weights
    assert other in others
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    assert set(weights) == {f"{path}.weight" for path, part in network.net.named_modules() if isinstance(part, layers)}


def test_what_timm_lists_does_not_decay():
    """Swin v2 lists linear layers, those that compute its biases of positions."""
    pytest.importorskip("timm")
    network = create_model("timm:swinv2_tiny_window8_256", 10, 64)
    weights, others = by_decay(network)
    assert not any("cpb_mlp" in name for name in weights)
    assert sum("cpb_mlp" in name for name in others) == 3 * 12
