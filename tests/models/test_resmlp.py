"""ResMLP: its size, its block by hand, its first values, timm's weights both ways, and STD on it."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from common.errors import RequestError
from distiller_zoo import Pair, create_method
from models import MODELS, FeatureShapes, create_model
from models.network import count_parameters
from models.resmlp import Affine, ResBlock, ResMLP
from tests.helpers import disturb

SIZES = {  # name: classes, image size, parameters
    "resmlp_pico": (10, 8, 136_586),
    "resmlp_nano": (100, 32, 1_112_548),
    "resmlp_s12_p4": (100, 32, 14_314_468),
    "resmlp_s12": (1000, 224, 15_350_872),
    "resmlp_s24": (1000, 224, 30_020_680),
    "resmlp_b24": (1000, 224, 115_736_776),
}
every_network = pytest.mark.parametrize("name", SIZES)


def images(batch, size, dtype=torch.float32):
    return torch.randn(batch, 3, size, size, dtype=dtype, generator=torch.Generator().manual_seed(1))


def test_every_network_is_tested():
    assert SIZES.keys() == {name for name in MODELS if MODELS[name].family == "resmlp"}
    assert {MODELS[name].recipe for name in SIZES} == {"deit"}


@every_network
def test_parameter_count(name):
    classes, size, parameters = SIZES[name]
    with torch.device("meta"):
        assert count_parameters(create_model(name, classes, size)) == parameters


@torch.no_grad()
def test_block_by_hand():
    torch.manual_seed(0)
    block = disturb(ResBlock(patches=5, width=3, scale=0.1).double())
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    p = {key: value.numpy() for key, value in block.state_dict().items()}
    gelu = np.vectorize(lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2)
    for sample, found in zip(x.numpy(), block(x).numpy(), strict=True):
        normed = p["norm1.alpha"][0] * sample + p["norm1.beta"][0]
        mixed = p["linear_tokens.weight"] @ normed + p["linear_tokens.bias"][:, None]
        middle = sample + mixed * p["ls1"]
        normed = p["norm2.alpha"][0] * middle + p["norm2.beta"][0]
        hidden = gelu(normed @ p["mlp_channels.fc1.weight"].T + p["mlp_channels.fc1.bias"])
        mixed = hidden @ p["mlp_channels.fc2.weight"].T + p["mlp_channels.fc2.bias"]
        np.testing.assert_allclose(found, middle + mixed * p["ls2"], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("ours", "theirs"), [("resmlp_s12", "resmlp_12_224"), ("resmlp_s24", "resmlp_24_224")])
def test_published_configurations_are_timms(ours, theirs):
    timm_mixer = pytest.importorskip("timm.models.mlp_mixer")
    with torch.device("meta"):
        expected = getattr(timm_mixer, theirs)().state_dict()
        found = create_model(ours, 1000, 224).state_dict()
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in expected.items()}


@pytest.mark.parametrize(("width", "depth", "patch", "classes", "size"), [(24, 3, 4, 7, 16), (16, 2, 2, 10, 8)])
@torch.no_grad()
def test_weights_go_to_timm_and_back_and_give_the_same_outputs(width, depth, patch, classes, size):
    timm_mixer = pytest.importorskip("timm.models.mlp_mixer")
    torch.manual_seed(0)
    ours, other = (disturb(ResMLP(width, depth, patch, 0.1, classes, size)).eval() for _ in range(2))
    theirs = timm_mixer.MlpMixer(
        num_classes=classes,
        img_size=size,
        patch_size=patch,
        num_blocks=depth,
        embed_dim=width,
        mlp_ratio=4,
        block_layer=partial(timm_mixer.ResBlock, init_values=1e-5),
        norm_layer=timm_mixer.Affine,
    ).eval()
    x = images(3, size)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    torch.testing.assert_close(theirs(x), ours(x), rtol=1e-5, atol=1e-5)
    maps, seen = theirs.forward_intermediates(x, intermediates_only=True), ours.features(x)
    torch.testing.assert_close(seen.blocks, tuple(maps), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(seen.embedding, theirs.forward_head(theirs.forward_features(x), pre_logits=True))
    disturb(theirs)
    other.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(other(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "scale"), [("resmlp_pico", 1), ("resmlp_s12", 0.1), ("resmlp_s24", 1e-5)])
def test_first_values(name, scale):
    network = create_model(name, 10, 32)
    for module in network.modules():
        if isinstance(module, Affine):
            assert (module.alpha == 1).all()
            assert not module.beta.any()
        elif isinstance(module, ResBlock):
            assert (module.ls1 == scale).all()
            assert (module.ls2 == scale).all()
            assert module.linear_tokens.weight.any()
    assert not network(images(2, 32)).any()


@pytest.mark.parametrize(("depth", "ends"), [(12, [2, 5, 8, 11]), (4, [0, 1, 2, 3]), (3, [0, 1, 2])])
@torch.no_grad()
def test_features(depth, ends):
    torch.manual_seed(0)
    network = disturb(ResMLP(width=8, depth=depth, patch=2, scale=0.1, num_classes=5, image_size=6)).eval()
    out = network.features(images(2, 6))
    assert len(out.blocks) == depth
    assert [id(stage) for stage in out.stages] == [id(out.blocks[end]) for end in ends]
    assert out.preacts == out.stages
    assert out.stem.shape == out.last_map.shape == out.blocks[0].shape == (2, 8, 3, 3)
    torch.testing.assert_close(out.last_map.mean(dim=(2, 3)), out.embedding)
    torch.testing.assert_close(network.head(out.embedding), out.logits)
    expected = network.norm(out.blocks[-1].flatten(2).transpose(1, 2)).transpose(1, 2)
    assert torch.equal(out.last_map.flatten(2), expected)


def test_every_parameter_gets_a_gradient():
    network = disturb(ResMLP(width=8, depth=2, patch=2, scale=0.1, num_classes=5, image_size=6))
    network(images(2, 6)).square().sum().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("name", "size"), [("resmlp_s12", 40), ("resmlp_nano", 30), ("resmlp_pico", 9)])
def test_an_image_that_patches_do_not_fill_is_refused(name, size):
    sentence = f"ResMLP with .* cannot cut images of {size}×{size}; choose a ResMLP whose patch size divides {size}"
    with pytest.raises(RequestError, match=sentence):
        create_model(name, image_size=size)


def with_two_std_modules(name, classes, size):
    network = create_model(name, classes, size)
    teacher = FeatureShapes(classes, 8, (3, 4, 4), (), ())
    pair = Pair(network.feature_shapes(), (teacher,), num_samples=50)
    return network, create_method("std", pair, {"std_modules": "last+intermediate"})


@every_network
@torch.no_grad()
def test_std_attaches(name):
    classes, size, parameters = SIZES[name]
    with torch.device("meta"):
        network, method = with_two_std_modules(name, classes, size)
        features = method.attach(network.features(torch.empty(2, 3, size, size)))
        assert [head.shape for head in features.heads] == [(2, classes)] * 2
        assert method.predict(features).shape == (2, classes)
    if name == "resmlp_b24":  # 122.6 M in the paper; with N/2 and 4N hidden channels it is 122.56 M
        assert parameters + count_parameters(method) == pytest.approx(122.56e6, abs=0.01e6)
