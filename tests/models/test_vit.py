"""ViT and DeiT: their size, their equations in NumPy, where patches lie in their maps, both tokens, timm's weights."""

import math

import numpy as np
import pytest
import torch

from common.errors import RequestError
from dataset import DATASETS
from engine.checkpoints.weights import load_network
from models import MODELS, create_model
from models.vit import VisionTransformer, VitSizes
from tests.helpers import disturb

SIZES = {  # name: classes, image size, parameters (of deit_* as published)
    "vit_pico": (10, 8, 202_698),
    "vit_nano": (100, 32, 1_614_052),
    "deit_nano_distilled": (100, 32, 1_627_208),
    "deit_tiny": (1000, 224, 5_717_416),
    "deit_tiny_distilled": (1000, 224, 5_910_800),
    "deit_small": (1000, 224, 22_050_664),
    "deit_small_distilled": (1000, 224, 22_436_432),
    "deit_base": (1000, 224, 86_567_656),
    "deit_base_distilled": (1000, 224, 87_338_192),
}
both_forms = pytest.mark.parametrize("distilled", [False, True])


def small_vit(depth=2, distilled=False, **given):
    """A ViT for 5 classes and 6 px in double precision, in which every parameter counts."""
    torch.manual_seed(0)
    sizes = VitSizes(width=12, depth=depth, heads=3, patch=2, **given)
    vit = VisionTransformer(sizes, num_classes=5, image_size=6, distilled=distilled).double().eval()
    return disturb(vit)


def images(batch, size):
    return torch.randn(batch, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SIZES)
def test_parameter_count(name):
    classes, size, parameters = SIZES[name]
    with torch.device("meta"):
        vit = create_model(name, classes, size)
    assert sum(p.numel() for p in vit.parameters()) == parameters


def test_the_network_of_distillable_vit():
    """By hand: 6 blocks, 1024 wide, 8 heads of 64, 2048 inside, 49 patches of 32 px."""
    with torch.device("meta"):
        vit = create_model("distillable_vit", 2, 224)
    attention = 1024 * 3 * 512 + 3 * 512 + 512 * 1024 + 1024
    perceptron = 2 * 1024 * 2048 + 2048 + 1024
    norm, head = 2 * 1024, 1024 * 2 + 2
    expected = 6 * (attention + perceptron + 2 * norm) + norm
    expected += (3 * 32 * 32 + 1) * 1024 + (2 + 49 + 2) * 1024 + 2 * head
    assert sum(p.numel() for p in vit.parameters()) == expected
    assert {m.p for m in vit.modules() if isinstance(m, torch.nn.Dropout)} == {0.1}


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.family == "vit"])
def test_registration(name):
    assert MODELS[name].recipe == "deit"
    assert (create_model(name, 10, 32).head_dist is not None) == (name.endswith("distilled") or "distillable" in name)


# --- what it computes ------------------------------------------------------------------------------


def norm(x, weight, bias):
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * weight + bias


def softmax(x):
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


gelu = np.vectorize(lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2)


def naive_vit(image, state, depth, heads, patch, head_width):
    """For one image: the patches after the stem and each block (P×N), and the normed tokens in front of them."""
    grid = image.shape[1] // patch

    def layer(x, key):
        return x @ state[f"{key}.weight"].T + state[f"{key}.bias"]

    def normed(x, key):
        return norm(x, state[f"{key}.weight"], state[f"{key}.bias"])

    kernel = state["patch_embed.proj.weight"]
    cut = [image[:, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch] for i in range(grid) for j in range(grid)]
    patches = np.array([(kernel * part).sum(axis=(1, 2, 3)) for part in cut]) + state["patch_embed.proj.bias"]
    own = [state[key][0] for key in ("cls_token", "dist_token") if key in state]
    x = np.concatenate([*own, patches]) + state["pos_embed"][0]
    trace = [patches]
    for block in range(depth):
        qkv = layer(normed(x, f"blocks.{block}.norm1"), f"blocks.{block}.attn.qkv")
        mixed = []
        for head in range(heads):
            place = slice(head * head_width, (head + 1) * head_width)
            q, k, v = (part[:, place] for part in np.split(qkv, 3, axis=1))
            mixed.append(softmax(q @ k.T / math.sqrt(head_width)) @ v)
        x = x + layer(np.concatenate(mixed, axis=1), f"blocks.{block}.attn.proj")
        inside = gelu(layer(normed(x, f"blocks.{block}.norm2"), f"blocks.{block}.mlp.fc1"))
        x = x + layer(inside, f"blocks.{block}.mlp.fc2")
        trace.append(x[len(own) :])
    return trace, normed(x[: len(own)], "norm")


@pytest.mark.parametrize("given", [{}, {"distilled": True}, {"distilled": True, "head_width": 5, "hidden": 7}])
@torch.no_grad()
def test_equations_in_numpy(given):
    vit, x = small_vit(**given), images(2, 6)
    state = {key: value.numpy() for key, value in vit.state_dict().items()}
    out = vit.features(x)
    for sample, image in enumerate(x.numpy()):
        trace, own = naive_vit(image, state, 2, 3, 2, given.get("head_width", 4))
        for found, tokens in zip([out.stem, *out.blocks], trace, strict=True):
            np.testing.assert_allclose(found[sample], tokens.reshape(3, 3, 12).transpose(2, 0, 1), atol=1e-9)
        np.testing.assert_allclose(out.embedding[sample], own[0], atol=1e-9)
        logits = own[0] @ state["head.weight"].T + state["head.bias"]
        np.testing.assert_allclose(out.logits[sample], logits, atol=1e-9)
        for head, read, token in zip(out.heads, out.tokens, own[1:], strict=True):
            np.testing.assert_allclose(read[sample], token, atol=1e-9)
            np.testing.assert_allclose(
                head[sample], token @ state["head_dist.weight"].T + state["head_dist.bias"], atol=1e-9
            )
    assert len(out.heads) == ("distilled" in given)


@both_forms
@pytest.mark.parametrize(("i", "j"), [(0, 0), (0, 2), (2, 1)])
@torch.no_grad()
def test_a_changed_patch_shows_at_its_place(i, j, distilled):
    """Without attention a patch reaches its own place of every map and no other."""
    vit = small_vit(distilled=distilled)
    for block in vit.blocks:
        block.attn.proj.weight.zero_()
    x = images(1, 6)
    changed = x.clone()
    changed[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] += 1
    before, after = vit.features(x), vit.features(changed)
    expected = torch.zeros(3, 3, dtype=torch.bool)
    expected[i, j] = True
    for a, b in zip([before.stem, *before.blocks], [after.stem, *after.blocks], strict=True):
        assert torch.equal((a != b).any(dim=(0, 1)), expected)
    assert torch.equal(before.logits, after.logits)


@pytest.mark.parametrize(("depth", "ends"), [(12, [2, 5, 8, 11]), (4, [0, 1, 2, 3]), (2, [0, 1]), (1, [0])])
@torch.no_grad()
def test_stages_are_blocks_at_even_distances(depth, ends):
    out = small_vit(depth=depth).features(images(2, 6))
    assert [id(stage) for stage in out.stages] == [id(out.blocks[end]) for end in ends]
    assert out.preacts == out.stages


@both_forms
def test_feature_shapes(distilled):
    name = "deit_nano_distilled" if distilled else "vit_nano"
    shapes = create_model(name, 10, 16).feature_shapes()
    assert shapes.stem == (128, 4, 4)
    assert shapes.blocks == ((128, 4, 4),) * 8
    assert shapes.stages == ((128, 4, 4),) * 4
    assert shapes.last_map == (128, 1, 1)
    assert (shapes.embedding, shapes.num_classes) == (128, 10)


@pytest.mark.parametrize(("name", "size"), [("deit_tiny", 40), ("vit_nano", 30), ("deit_pico_distilled", 9)])
def test_an_image_that_patches_do_not_fill_is_refused(name, size):
    with pytest.raises(RequestError, match=f"cannot cut images of {size}×{size}"):
        create_model(name, image_size=size)


def test_dropout_acts_in_training_only():
    vit, x = small_vit(dropout=0.3), images(1, 6)
    assert torch.equal(vit(x), vit(x))
    vit.train()
    assert not torch.equal(vit(x), vit(x))


# --- two tokens ------------------------------------------------------------------------------------


def without_gradient(vit):
    return [key for key, p in vit.named_parameters() if p.grad is None or not p.grad.any()]


@both_forms
def test_every_parameter_gets_a_gradient(distilled):
    vit = small_vit(distilled=distilled)
    out = vit.features(images(2, 6))
    sum(logits.square().sum() for logits in (out.logits, *out.heads)).backward()
    assert without_gradient(vit) == []


def test_the_class_head_alone_trains_all_but_the_other_head():
    """What happens under other methods: the class token attends to the second one, whose head is not used."""
    vit = small_vit(distilled=True)
    vit(images(2, 6)).square().sum().backward()
    assert without_gradient(vit) == ["head_dist.weight", "head_dist.bias"]


# --- timm's weights --------------------------------------------------------------------------------


def timm_pair(distilled, width=24, depth=3, heads=4, patch=4, classes=7, size=16):
    """timm's network and ours of one size, both with random weights."""
    deit, vision_transformer = (
        pytest.importorskip(f"timm.models.{module}") for module in ("deit", "vision_transformer")
    )
    build = deit.VisionTransformerDistilled if distilled else vision_transformer.VisionTransformer
    torch.manual_seed(0)
    theirs = build(
        img_size=size, patch_size=patch, num_classes=classes, embed_dim=width, depth=depth, num_heads=heads
    ).eval()
    ours = VisionTransformer(VitSizes(width, depth, heads, patch), classes, size, distilled).eval()
    with torch.no_grad():
        for parameter in (*theirs.parameters(), *ours.parameters()):
            parameter += 0.1 * torch.randn_like(parameter)
    return theirs, ours


@both_forms
@pytest.mark.parametrize("direction", ["from timm", "to timm"])
@torch.no_grad()
def test_weights_are_exchanged_with_timm(direction, distilled):
    theirs, ours = timm_pair(distilled)
    x = images(3, 16).float()
    if direction == "from timm":
        ours.load_state_dict(theirs.state_dict(), strict=True)
    else:
        theirs.load_state_dict(ours.state_dict(), strict=True)
    out = ours.features(x)
    if distilled:
        torch.testing.assert_close((out.logits + out.heads[0]) / 2, theirs(x), rtol=1e-5, atol=1e-5)
        theirs.set_distilled_training(True)
        for found, expected in zip((out.logits, *out.heads), theirs.train()(x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    else:
        torch.testing.assert_close(out.logits, theirs(x), rtol=1e-5, atol=1e-5)
    for found, expected in zip(out.blocks, theirs.get_intermediate_layers(x, n=3, reshape=True), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("file", ["deit_tiny_patch16_224-a1311bcf.pth", "deit_tiny_distilled_patch16_224-b40b3cf7.pth"])
@torch.no_grad()
def test_files_with_the_names_of_the_published_ones_load(file, tmp_path):
    """They hold {"model": state}; here with positions for 32 px."""
    timm = pytest.importorskip("timm")
    theirs = timm.create_model(file.partition("-")[0], img_size=32, num_classes=100).eval()
    torch.save({"model": theirs.state_dict()}, tmp_path / file)
    loaded = load_network(tmp_path / file, DATASETS["cifar100"])
    assert loaded.arch == file.partition("_patch")[0]
    x = images(2, 32).float()
    out = loaded.network.features(x)
    heads = (out.logits, *out.heads)
    torch.testing.assert_close(sum(heads) / len(heads), theirs(x), rtol=1e-4, atol=1e-5)
