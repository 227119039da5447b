"""MLP-Mixer: its size, its equations by hand, where patches lie in its maps, and timm's weights."""

import math

import pytest
import torch

from common.errors import RequestError
from models import MODELS, create_model
from models.mixer import MlpMixer
from tests.helpers import disturb

SIZES = {  # name: classes, image size, parameters
    "mixer_nano": (100, 32, 1_143_780),
    "mixer_s4": (100, 32, 17_156_196),
    "mixer_s16": (1000, 224, 18_528_264),
    "mixer_b16": (1000, 224, 59_880_472),
}


def small_mixer(width=16, depth=3, patch=2, classes=5, size=6):
    """A Mixer in double precision in which every parameter counts."""
    torch.manual_seed(0)
    mixer = MlpMixer(width, depth, patch, classes, size).double().eval()
    return disturb(mixer)


def images(batch, size):
    return torch.randn(batch, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SIZES)
def test_parameter_count(name):
    classes, size, parameters = SIZES[name]
    with torch.device("meta"):
        mixer = create_model(name, classes, size)
    assert sum(p.numel() for p in mixer.parameters()) == parameters


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("mixer")])
def test_registration(name):
    assert MODELS[name].family == "mixer"
    assert MODELS[name].recipe == "deit"


def naive_norm(row, weight, bias):
    mean = sum(row) / len(row)
    variance = sum((v - mean) ** 2 for v in row) / len(row)
    return [(v - mean) / math.sqrt(variance + 1e-6) * w + b for v, w, b in zip(row, weight, bias, strict=True)]


def naive_mlp(vector, state, prefix):
    """W2·GELU(W1·v + b1) + b2 with the exact GELU."""

    def linear(v, layer):
        weight, bias = state[f"{prefix}.{layer}.weight"], state[f"{prefix}.{layer}.bias"]
        return [sum(w * x for w, x in zip(row, v, strict=True)) + b for row, b in zip(weight, bias, strict=True)]

    hidden = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in linear(vector, "fc1")]
    return linear(hidden, "fc2")


def naive_mixer(image, state, depth, patch):
    """Lists of numbers for one image: after the stem, after each block (P rows of N), embedding and logits."""
    grid = len(image[0]) // patch
    tokens = []
    for i in range(grid):
        for j in range(grid):
            cut = [(c, y, x) for c in range(3) for y in range(patch) for x in range(patch)]
            tokens.append(
                [
                    bias + sum(kernel[c][y][x] * image[c][i * patch + y][j * patch + x] for c, y, x in cut)
                    for kernel, bias in zip(state["stem.proj.weight"], state["stem.proj.bias"], strict=True)
                ]
            )
    trace = [tokens]
    for block in range(depth):
        prefix = f"blocks.{block}"

        def norm(rows, name, prefix=prefix):
            weight, bias = state[f"{prefix}.{name}.weight"], state[f"{prefix}.{name}.bias"]
            return [naive_norm(row, weight, bias) for row in rows]

        columns = zip(*norm(tokens, "norm1"), strict=True)
        mixed = [naive_mlp(column, state, f"{prefix}.mlp_tokens") for column in columns]
        tokens = [[v + mixed[n][p] for n, v in enumerate(row)] for p, row in enumerate(tokens)]
        mixed = [naive_mlp(row, state, f"{prefix}.mlp_channels") for row in norm(tokens, "norm2")]
        tokens = [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(tokens, mixed, strict=True)]
        trace.append(tokens)
    rows = [naive_norm(row, state["norm.weight"], state["norm.bias"]) for row in tokens]
    embedding = [sum(column) / len(column) for column in zip(*rows, strict=True)]
    head = zip(state["head.weight"], state["head.bias"], strict=True)
    return trace, embedding, [sum(w * v for w, v in zip(row, embedding, strict=True)) + b for row, b in head]


@torch.no_grad()
def test_equations_by_hand():
    mixer, x = small_mixer(width=6, depth=2, patch=2, classes=3, size=6), images(2, 6)
    state = {key: value.tolist() for key, value in mixer.state_dict().items()}
    out = mixer.features(x)
    for sample, image in enumerate(x.tolist()):
        trace, embedding, logits = naive_mixer(image, state, depth=2, patch=2)
        for found, tokens in zip([out.stem, *out.blocks], trace, strict=True):
            expected = torch.tensor(tokens, dtype=torch.float64).reshape(3, 3, 6).permute(2, 0, 1)
            torch.testing.assert_close(found[sample], expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(out.embedding[sample].tolist(), embedding, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(out.logits[sample].tolist(), logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("i", "j"), [(0, 0), (0, 2), (1, 0), (2, 1)])
@torch.no_grad()
def test_a_changed_patch_shows_at_its_place(i, j):
    """With token mixing switched off a patch reaches its own place of every map and no other."""
    mixer = small_mixer()
    for block in mixer.blocks:
        block.mlp_tokens.fc2.weight.zero_()
    x = images(1, 6)
    changed = x.clone()
    changed[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] += 1
    before, after = mixer.features(x), mixer.features(changed)
    expected = torch.zeros(3, 3, dtype=torch.bool)
    expected[i, j] = True
    for a, b in zip([before.stem, *before.blocks], [after.stem, *after.blocks], strict=True):
        assert torch.equal((a != b).any(dim=(0, 1)), expected)


@torch.no_grad()
def test_token_mixing_reaches_every_place():
    mixer, x = small_mixer(), images(1, 6)
    changed = x.clone()
    changed[:, :, :2, :2] += 1
    assert (mixer.features(x).blocks[0] != mixer.features(changed).blocks[0]).any(dim=(0, 1)).all()


@pytest.mark.parametrize(
    ("depth", "ends"), [(8, [1, 3, 5, 7]), (12, [2, 5, 8, 11]), (4, [0, 1, 2, 3]), (2, [0, 1]), (1, [0])]
)
@torch.no_grad()
def test_stages_are_blocks_at_even_distances(depth, ends):
    out = small_mixer(depth=depth).features(images(2, 6))
    assert len(out.blocks) == depth
    assert [id(stage) for stage in out.stages] == [id(out.blocks[end]) for end in ends]
    assert out.preacts == out.stages


def test_feature_shapes():
    shapes = create_model("mixer_nano", 10, 16).feature_shapes()
    assert shapes.stem == (128, 4, 4)
    assert shapes.blocks == ((128, 4, 4),) * 8
    assert shapes.stages == ((128, 4, 4),) * 4
    assert (shapes.embedding, shapes.num_classes) == (128, 10)


@pytest.mark.parametrize(("name", "size"), [("mixer_s16", 40), ("mixer_nano", 30), ("mixer_pico", 9)])
def test_an_image_that_patches_do_not_fill_is_refused(name, size):
    with pytest.raises(RequestError, match=f"{size}×{size}"):
        create_model(name, image_size=size)


def test_first_predictions_are_uniform():
    assert not create_model("mixer_pico", 10, 8).features(images(2, 8).float()).logits.any()


def test_every_parameter_gets_a_gradient():
    mixer = small_mixer()
    mixer(images(2, 6)).square().sum().backward()
    assert [key for key, p in mixer.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("width", "depth", "patch", "classes", "size"), [(32, 3, 4, 7, 16), (48, 2, 2, 10, 8)])
@torch.no_grad()
def test_weights_of_timm_load_and_give_the_same_outputs(width, depth, patch, classes, size):
    timm_mixer = pytest.importorskip("timm.models.mlp_mixer")
    torch.manual_seed(0)
    theirs = timm_mixer.MlpMixer(
        num_classes=classes, img_size=size, patch_size=patch, num_blocks=depth, embed_dim=width
    ).eval()
    for parameter in theirs.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    ours = MlpMixer(width, depth, patch, classes, size).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = images(3, size).float()
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
