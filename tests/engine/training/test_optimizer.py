"""Optimizers are those of torch, over the groups that recipes ask for."""

import contextlib
import copy
from functools import cache

import pytest
import torch
from torch import nn

from common.errors import RequestError
from distiller_zoo import METHODS, Pair, create_method
from engine.protocol.recipes import resolve_recipe
from engine.training.optimizer import make_optimizer
from models import MODELS, create_model


def resolve(name):
    return resolve_recipe(name, MODELS["mixer_pico"], {})


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
    recipe = resolve(name)
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
    optimizer = make_optimizer(resolve("deit"), [student, method])
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    expected = [p for p in (*student.parameters(), *method.parameters()) if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in expected}
    assert len(trained) == len(expected)


def by_decay(module):
    """The names of the parameters that decay and of those that don't, in the optimizer's order."""
    known = {id(p): name.removeprefix("net.") for name, p in module.named_parameters()}
    groups = make_optimizer(resolve("deit"), [module]).param_groups
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
