"""CycleMLP: Cycle FC against deformable convolution, its mixing by hand, its size, its maps, and STD on it."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common.errors import RequestError
from distiller_zoo import Pair, create_method
from engine.checkpoints.weights import load_network
from models import MODELS, FeatureShapes, create_model
from models.cyclemlp import HEIGHT, WIDTH, CycleBlock, CycleFC, CycleMixing, CycleMLP, cycle_shift
from models.network import count_parameters
from tests.helpers import DIGITS, disturb

SIZES = {  # name, classes, image size: parameters
    ("cyclemlp_nano", 10, 8): 927_506,
    ("cyclemlp_nano", 100, 32): 939_116,
    ("cyclemlp_b1", 1000, 224): 15_155_400,
    ("cyclemlp_b2", 1000, 224): 26_802_504,
}
every_network = pytest.mark.parametrize(("name", "classes", "size"), SIZES)


def small_network(image_size=16):
    torch.manual_seed(0)
    return disturb(CycleMLP((8, 12, 16, 20), (1, 1, 1, 3), num_classes=5, image_size=image_size)).eval()


def images(batch, size):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_every_network_is_tested():
    assert {name for name, _, _ in SIZES} == {name for name in MODELS if MODELS[name].family == "cyclemlp"}
    assert {MODELS[name].recipe for name, _, _ in SIZES} == {"deit"}


@every_network
def test_parameter_count(name, classes, size):
    with torch.device("meta"):
        assert count_parameters(create_model(name, classes, size)) == SIZES[name, classes, size]


# --- Cycle FC --------------------------------------------------------------------------------------


def offsets(channels, dim):
    """What the authors give to the deformable convolution: for each channel its step along H and along W."""
    steps = torch.zeros(1, channels, 2, 1, 1)
    for channel in range(channels):
        steps[0, channel, 0 if dim == HEIGHT else 1] = (channel + 1) % 3 - 1
    return steps.flatten(1, 2)


@pytest.mark.parametrize("dim", [HEIGHT, WIDTH])
@pytest.mark.parametrize("shape", [(2, 5, 7, 8), (1, 4, 4, 9), (2, 1, 3, 7), (2, 1, 1, 6), (1, 2, 2, 2)])
def test_cycle_fc_equals_deformable_convolution(dim, shape):
    ops = pytest.importorskip("torchvision.ops")
    torch.manual_seed(0)
    _, height, width, channels = shape
    layer = disturb(CycleFC(channels, dim))
    x, upstream = torch.randn(shape), torch.randn(shape)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight, bias = (p.detach().clone().requires_grad_() for p in (layer.weight, layer.bias))
    steps = offsets(channels, dim).expand(shape[0], -1, height, width)
    expected = ops.deform_conv2d(theirs.permute(0, 3, 1, 2), steps, weight, bias).permute(0, 2, 3, 1)
    found = layer(ours)
    found.backward(upstream)
    expected.backward(upstream)
    pairs = [
        (found, expected),
        (ours.grad, theirs.grad),
        (layer.weight.grad, weight.grad),
        (layer.bias.grad, bias.grad),
    ]
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dim", [HEIGHT, WIDTH])
def test_shift_place_by_place(dim):
    x = torch.randn(2, 4, 3, 7)
    found = cycle_shift(x, dim)
    for b, i, j, c in np.ndindex(*x.shape):
        step = (c + 1) % 3 - 1
        y, z = (i + step, j) if dim == HEIGHT else (i, j + step)
        inside = 0 <= y < 4 and 0 <= z < 3
        assert found[b, i, j, c] == (x[b, y, z, c] if inside else 0)


@torch.no_grad()
def test_mixing_by_hand():
    torch.manual_seed(0)
    mixing = disturb(CycleMixing(8).double())
    x = torch.randn(2, 3, 4, 8, dtype=torch.float64)
    p = {key: value.numpy() for key, value in mixing.state_dict().items()}
    gelu = np.vectorize(lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2)
    shifted = [cycle_shift(x, dim).numpy() for dim in (WIDTH, HEIGHT)]
    for b in range(2):
        branches = [
            along[b] @ p[f"{name}.weight"][:, :, 0, 0].T + p[f"{name}.bias"]
            for name, along in zip(("sfc_h", "sfc_w"), shifted, strict=True)
        ]
        branches.append(x[b].numpy() @ p["mlp_c.weight"].T)
        mean = sum(branches).mean(axis=(0, 1))
        hidden = gelu(p["reweight.fc1.weight"] @ mean + p["reweight.fc1.bias"])
        scores = np.exp(p["reweight.fc2.weight"] @ hidden + p["reweight.fc2.bias"])
        mixed = np.zeros((3, 4, 8))
        for c in range(8):
            three = scores[3 * c : 3 * c + 3]
            mixed[:, :, c] = sum(w * branch[:, :, c] for w, branch in zip(three / three.sum(), branches, strict=True))
        expected = mixed @ p["proj.weight"].T + p["proj.bias"]
        np.testing.assert_allclose(mixing(x)[b].numpy(), expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_block_adds_both_residuals():
    torch.manual_seed(0)
    block = disturb(CycleBlock(8))
    x = torch.randn(2, 3, 4, 8)
    middle = x + block.attn(F.layer_norm(x, (8,), block.norm1.weight, block.norm1.bias))
    normed = F.layer_norm(middle, (8,), block.norm2.weight, block.norm2.bias)
    expected = middle + block.mlp.fc2(F.gelu(block.mlp.fc1(normed)))
    torch.testing.assert_close(block(x), expected, rtol=1e-6, atol=1e-6)


# --- the network -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "stem", "grids"),
    [
        (224, 56, (56, 28, 14, 7)),
        (96, 24, (24, 12, 6, 3)),
        (64, 32, (32, 16, 8, 8)),
        (32, 16, (16, 8, 4, 4)),
        (16, 8, (8, 4, 2, 2)),
        (8, 8, (8, 4, 2, 2)),
    ],
)
def test_maps_of_each_image_size(size, stem, grids):
    shapes = small_network(size).feature_shapes()
    assert shapes.stem == (8, stem, stem)
    assert shapes.stages == shapes.preacts == tuple((c, g, g) for c, g in zip((8, 12, 16, 20), grids, strict=True))
    assert shapes.blocks == ((20, grids[-1], grids[-1]),) * 3
    assert shapes.last_map == shapes.blocks[-1]
    assert (shapes.embedding, shapes.num_classes) == (20, 5)


@torch.no_grad()
def test_features_are_those_of_the_layers_in_their_order():
    network, x = small_network(), images(2, 16)
    out = network.features(x)
    stage0, step0, stage1, step1, stage2, step2, stage3 = network.network

    def rows(maps):
        return maps.permute(0, 2, 3, 1)

    def maps(x):
        return x.permute(0, 3, 1, 2)

    assert torch.equal(out.stem, network.patch_embed(x))
    assert torch.equal(out.stages[0], maps(stage0(rows(out.stem))))
    assert torch.equal(out.stages[1], maps(stage1(rows(step0(out.stages[0])))))
    assert torch.equal(out.stages[2], maps(stage2(rows(step1(out.stages[1])))))
    expected = rows(step2(out.stages[2]))
    for block, found in zip(stage3, out.blocks, strict=True):
        expected = block(expected)
        assert torch.equal(found, maps(expected))
    assert out.stages[3] is out.blocks[-1]
    assert out.preacts == out.stages
    assert torch.equal(out.last_map, maps(network.norm(expected)))
    torch.testing.assert_close(out.last_map.mean(dim=(2, 3)), out.embedding)
    torch.testing.assert_close(network.head(out.embedding), out.logits)


def test_first_values():
    torch.manual_seed(0)
    network = CycleMLP((64, 64, 64, 64), (1, 1, 1, 1), num_classes=10, image_size=32)
    for module in network.modules():
        if isinstance(module, torch.nn.Linear | CycleFC):
            assert 0.015 < module.weight.std() < 0.025
            assert module.bias is None or not module.bias.any()


@pytest.mark.parametrize("size", [8, 32, 72])
def test_every_parameter_gets_a_gradient(size):
    network = small_network(size)
    network(images(2, size)).square().sum().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_checkpoints_with_the_authors_offsets_load(tmp_path):
    """Nothing else that a network does not have does."""
    network = create_model("cyclemlp_nano", 10, 8).eval()
    state = network.state_dict()
    for name, module in network.named_modules():
        if isinstance(module, CycleFC):
            state[f"{name}.offset"] = offsets(module.weight.shape[1], module.dim)
    torch.save(state, tmp_path / "theirs.pth")
    loaded = load_network(tmp_path / "theirs.pth", DIGITS, arch="cyclemlp_nano").network
    assert torch.equal(loaded(images(2, 8)), network(images(2, 8)))
    torch.save(state | {"head.scale": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(RequestError, match=r"has, unlike it, head\.scale \(1 such"):
        load_network(tmp_path / "other.pth", DIGITS, arch="cyclemlp_nano")


# --- STD -------------------------------------------------------------------------------------------


def with_two_std_modules(name, classes, size):
    network = create_model(name, classes, size)
    teacher = FeatureShapes(classes, 8, (3, 4, 4), (), ())
    pair = Pair(network.feature_shapes(), (teacher,), num_samples=50)
    return network, create_method("std", pair, {"std_modules": "last+intermediate"})


@every_network
@torch.no_grad()
def test_std_attaches(name, classes, size):
    with torch.device("meta"):
        network, method = with_two_std_modules(name, classes, size)
        features = method.attach(network.features(torch.empty(2, 3, size, size)))
        assert [head.shape for head in features.heads] == [(2, classes)] * 2
        assert method.predict(features).shape == (2, classes)
    if (name, size) == ("cyclemlp_b2", 224):  # 30.1 M in the paper; a module a stage earlier would give 29.7 M
        assert count_parameters(network) + count_parameters(method) == pytest.approx(30.07e6, abs=0.01e6)
