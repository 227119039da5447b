"""The CNNs against the published parameter counts and against facts measured on RepDistiller's networks.

`fixtures/repdistiller_networks.json` holds, for each network of 100 classes: a digest of its state-dict keys and
shapes, and logits and feature statistics for the weights of `fill` and the images of `images`, in eval mode.
"""

import hashlib
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import RequestError
from models import MODELS, create_model

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures" / "repdistiller_networks.json").read_text())
PRETRAINED_RESNET56 = Path(__file__).parents[3] / "shared" / "teachers" / "cifar100_resnet56-f2eff4c8.pt"

PLAIN = ["16x32", "16x32", "32x16", "64x8", "64"]
WIDE = ["32x32", "64x32", "128x16", "256x8", "256"]
WRN_2 = ["16x32", "32x32", "64x16", "128x8", "128"]
VGG = ["64x32", "128x16", "256x8", "512x4", "512x4", "512"]
# name: parameters, [stem, *stages, embedding] as channels×size, for 100 classes and 32×32 images
TABLE = {
    "resnet8": (83_892, PLAIN),
    "resnet14": (181_108, PLAIN),
    "resnet20": (278_324, PLAIN),
    "resnet32": (472_756, PLAIN),
    "resnet44": (667_188, PLAIN),
    "resnet56": (861_620, PLAIN),
    "resnet110": (1_736_564, PLAIN),
    "resnet8x4": (1_233_540, WIDE),
    "resnet32x4": (7_433_860, WIDE),
    "ResNet50": (23_705_252, ["64x32", "256x32", "512x16", "1024x8", "2048x4", "2048"]),
    "wrn_16_1": (180_916, PLAIN),
    "wrn_16_2": (703_284, WRN_2),
    "wrn_40_1": (569_780, PLAIN),
    "wrn_40_2": (2_255_156, WRN_2),
    "vgg8": (3_965_028, VGG),
    "vgg11": (9_277_284, VGG),
    "vgg13": (9_462_180, VGG),
    "vgg16": (14_774_436, VGG),
    "vgg19": (20_086_692, VGG),
    "MobileNetV2": (812_836, ["16x16", "12x16", "16x8", "48x4", "160x2", "1280"]),
    "ShuffleV1": (949_258, ["24x32", "240x16", "480x8", "960x4", "960"]),
    "ShuffleV2": (1_355_528, ["24x32", "116x16", "232x8", "464x4", "1024"]),
}
# entries of the state dict that pytorch-cifar-models publishes
CIFAR_MODELS_ENTRIES = {"resnet20": 128, "resnet32": 200, "resnet44": 272, "resnet56": 344}

# One network of each definition; their deeper and wider relatives run the same lines.
DEFINITIONS = ("resnet8", "resnet8x4", "ResNet50", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2")
every_definition = pytest.mark.parametrize("name", DEFINITIONS)


@torch.no_grad()
def fill(network: nn.Module) -> None:
    """Set every parameter and buffer to values that depend on its key, shape and position only."""
    for key, tensor in network.state_dict().items():
        rng = np.random.RandomState(zlib.crc32(key.encode()))
        if key.endswith("num_batches_tracked"):
            values = np.zeros(())
        elif tensor.dim() > 1:
            values = rng.standard_normal(tensor.shape) * math.sqrt(2 / tensor[0].numel())
        elif key.endswith("running_var"):
            values = rng.uniform(1, 3, tensor.shape)
        elif key.endswith("weight"):
            values = rng.uniform(0.9, 1.1, tensor.shape)
        else:
            values = 0.1 * rng.standard_normal(tensor.shape)
        tensor.copy_(torch.from_numpy(np.asarray(values)))


def images(batch: int, size: int) -> torch.Tensor:
    values = np.random.RandomState(size).standard_normal((batch, 3, size, size))
    return torch.from_numpy(values).float()


def key_digest(network: nn.Module) -> str:
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in network.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def statistics(tensor: torch.Tensor) -> list[float]:
    """Mean and L2 norm."""
    return [tensor.double().mean().item(), tensor.double().norm().item()]


@pytest.fixture(scope="module", params=TABLE)
def filled(request):
    """Name and filled network, one at a time: pytest runs all tests of one before it makes the next."""
    with torch.device("meta"):
        network = create_model(request.param)
    network = network.to_empty(device="cpu")
    fill(network)
    return request.param, network.eval()


def shape_text(tensor: torch.Tensor) -> str:
    return str(tensor.shape[1]) if tensor.dim() == 2 else f"{tensor.shape[1]}x{tensor.shape[2]}"


def assert_statistics(tensor: torch.Tensor, expected: list[float]) -> None:
    mean, norm = statistics(tensor)
    assert norm == pytest.approx(expected[1], rel=1e-4)
    # A mean may be close to zero by cancellation; what it can be off by scales with the values, not with itself.
    assert mean == pytest.approx(expected[0], abs=1e-4 * expected[1] / math.sqrt(tensor.numel()))


def test_parameter_count_and_state_dict_keys(filled):
    name, network = filled
    assert sum(p.numel() for p in network.parameters()) == TABLE[name][0]
    assert len(network.state_dict()) == GOLDEN[name]["entries"]
    assert key_digest(network) == GOLDEN[name]["keys_sha256"]


@torch.no_grad()
def test_outputs_and_features_equal_repdistiller(filled):
    name, network = filled
    expected = GOLDEN[name]
    x = images(2, 32)
    out = network.features(x)
    torch.testing.assert_close(network(x), out.logits)
    scale = out.logits.abs().max().item()
    torch.testing.assert_close(out.logits[:, :5], torch.tensor(expected["logits"]), rtol=1e-4, atol=1e-4 * scale)
    features = [out.stem, *out.stages, out.embedding]
    assert [shape_text(f) for f in features] == TABLE[name][1]
    assert len(features) == len(expected["features"])
    assert len(out.preacts) == len(expected["preacts"]) == len(out.stages)
    for tensor, numbers in zip([*features, *out.preacts], expected["features"] + expected["preacts"], strict=True):
        assert_statistics(tensor, numbers)


@every_definition
@pytest.mark.parametrize("size", [8, 64])
@torch.no_grad()
def test_other_image_sizes_and_classes(name, size):
    network = create_model(name, num_classes=10, image_size=size).eval()
    assert network.image_size == size
    out = network.features(images(1, size))
    assert out.logits.shape == (1, 10)
    assert out.logits.isfinite().all()
    assert out.shapes() == network.feature_shapes()
    assert [p.shape for p in out.preacts] == [s.shape for s in out.stages]


@every_definition
def test_training_pass_updates_each_norm_once_and_reaches_every_parameter(name):
    network = create_model(name, num_classes=10, image_size=16).train()
    out = network.features(images(2, 16))
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert {m.num_batches_tracked.item() for m in norms} == {1}
    # Methods read preacts as well: an in-place operation behind one would make this backward pass fail.
    (out.logits.square().sum() + sum(p.square().mean() for p in out.preacts)).backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []


@every_definition
@torch.no_grad()
def test_preacts_are_what_the_last_relu_reads(name):
    out = create_model(name, 10, 16).eval().features(images(1, 16))
    for stage, preact in zip(out.stages, out.preacts, strict=True):
        if name.startswith("wrn"):  # the preact lies one BN behind the stage
            assert preact.shape == stage.shape
        elif name == "MobileNetV2":  # linear bottlenecks
            assert preact is stage
        elif name == "ShuffleV2":  # the preact is not shuffled
            assert torch.equal(preact.relu(), torch.cat([stage[:, ::2], stage[:, 1::2]], dim=1))
        else:
            assert torch.equal(preact.relu(), stage)


@pytest.mark.parametrize(
    "name",
    [*DEFINITIONS, "mixer_pico", "resmlp_pico", "cyclemlp_nano", "vit_pico", "deit_pico_distilled", "timm:resnet18"],
)
@torch.no_grad()
def test_last_map_embedding_and_classifier_belong_together(name):
    """Of one network of each definition, whatever its family."""
    network = create_model(name, 10, 16).eval()
    nn.init.normal_(network.last_linear.weight)  # some heads start at zero
    seen = network.features(images(1, 16))
    torch.testing.assert_close(seen.last_map.mean(dim=(2, 3)), seen.embedding)
    torch.testing.assert_close(network.last_linear(seen.embedding), seen.logits)
    assert network.feature_shapes() == seen.shapes()
    assert f"{network.classifier_name}.weight" in network.state_dict()


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("timm:")])
def test_every_network_keeps_the_contract(name):
    """By shapes alone; those of timm are built from values."""
    with torch.device("meta"):
        network = create_model(name, 10, 32)
        shapes = network.feature_shapes()
    assert shapes.num_classes == 10
    assert shapes.embedding == network.last_linear.in_features


@pytest.mark.parametrize("name", TABLE)
def test_registration(name):
    expected_rate = 0.01 if name in ("MobileNetV2", "ShuffleV1", "ShuffleV2") else None
    assert MODELS[name].learning_rate == expected_rate
    assert MODELS.canonical(name.lower()) == name


def test_vgg_refuses_images_that_vanish():
    with pytest.raises(RequestError, match=r"\b4\b"):
        create_model("vgg8", image_size=4)


@pytest.mark.parametrize("name", CIFAR_MODELS_ENTRIES)
def test_state_dict_has_the_keys_of_pytorch_cifar_models(name):
    keys = {f"{layer}.{key}" for layer, parts in cifar_models_layers(name).items() for key in parts}
    assert len(keys) == CIFAR_MODELS_ENTRIES[name]
    with torch.device("meta"):
        assert set(create_model(name).state_dict()) == keys


def cifar_models_layers(name: str) -> dict[str, list[str]]:
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    layers = {"conv1": ["weight"], "bn1": norm, "fc": ["weight", "bias"]}
    for stage in (1, 2, 3):
        for block in range((int(name.removeprefix("resnet")) - 2) // 6):
            prefix = f"layer{stage}.{block}"
            layers |= {f"{prefix}.conv{i}": ["weight"] for i in (1, 2)} | {f"{prefix}.bn{i}": norm for i in (1, 2)}
        if stage > 1:
            layers |= {f"layer{stage}.0.downsample.0": ["weight"], f"layer{stage}.0.downsample.1": norm}
    return layers


def test_pretrained_resnet56_loads_strictly():
    if not PRETRAINED_RESNET56.exists():
        pytest.skip(f"no published weights at {PRETRAINED_RESNET56}")
    state = torch.load(PRETRAINED_RESNET56, map_location="cpu", weights_only=True)
    create_model("resnet56").load_state_dict(state, strict=True)
