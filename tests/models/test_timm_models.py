"""Networks of timm by name: equal to timm's own, resized as Pillow does, named, refused, saved in timm's keys."""

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from common.errors import RequestError
from engine.checkpoints.weights import load_network
from engine.device.sync_batchnorm import SyncBatchNorm, synchronise_batch_norm
from engine.device.world import World
from engine.protocol.recipes import resolve_recipe
from models import MODELS, create_model, timm_models
from models.registry import file_name_of
from models.timm_models import TimmNetwork
from tests.helpers import (
    DIGITS,
    ROOT,
    environment,
)

timm = pytest.importorskip("timm")


def large(*case):
    """A case whose networks take most of a second, of a kind that a smaller one has too."""
    return pytest.param(*case, marks=pytest.mark.slow)


# timm's name, image size, whether it takes img_size, whether its blocks have one shape
NETWORKS = [
    ("resnet10t", 32, False, False),
    large("resnet18", 32, False, False),
    ("lcnet_035", 32, False, False),  # batch norms that activate; a classifier behind a layer of its own
    large("densenet121", 32, False, False),
    ("test_convnext", 32, False, False),
    large("mixer_s32_224", 64, True, True),
    ("resmlp_12_224", 32, True, True),
    ("vit_tiny_patch16_224", 32, True, True),
    ("test_vit2", 32, True, True),  # averages its tokens, and norms behind that
    large("swin_tiny_patch4_window7_224", 32, True, False),
]
each_network = pytest.mark.parametrize(("name", "size", "takes_size", "isotropic"), NETWORKS)


def images(batch, size):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def pair_of(name, size, takes_size, classes=7):
    """Ours, and timm's own with the same random weights, none of which is zero."""
    torch.manual_seed(0)
    ours = create_model(f"timm:{name}", classes, size)
    theirs = timm.create_model(name, num_classes=classes, **({"img_size": size} if takes_size else {}))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


# --- equal to timm ---------------------------------------------------------------------------------


@each_network
def test_is_the_network_of_timm(name, size, takes_size, isotropic):
    """In evaluation, in a training pass with its gradients, and in what that pass leaves in the buffers."""
    ours, theirs = pair_of(name, size, takes_size)
    x = images(4, size)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    ours.train(), theirs.train()
    for network in (ours, theirs):
        torch.manual_seed(0)
        network(x).square().sum().backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=key)


@each_network
@torch.no_grad()
def test_features(name, size, takes_size, isotropic):
    ours, theirs = pair_of(name, size, takes_size)
    x = images(2, size)
    out = ours.eval().features(x)
    maps = theirs.eval().forward_intermediates(x, intermediates_only=True)
    if isotropic:
        chosen = {8: (1, 3, 5, 7), 12: (2, 5, 8, 11)}[len(maps)]
        assert len(out.blocks) == len(maps)
        assert [id(stage) for stage in out.stages] == [id(out.blocks[i]) for i in chosen]
    else:
        chosen = range(len(maps) - 4, len(maps))
        assert out.blocks == ()
    for found, place in zip(out.stages, chosen, strict=True):
        torch.testing.assert_close(found, maps[place])
    assert out.preacts == out.stages
    torch.testing.assert_close(out.stem, maps[0])
    torch.testing.assert_close(ours.last_linear(out.embedding), out.logits)
    torch.testing.assert_close(out.last_map.mean(dim=(2, 3)), out.embedding)
    assert ours.feature_shapes() == out.shapes()
    assert ours.image_size == size


@pytest.mark.parametrize(
    ("name", "averages"),
    [("resnet10t", True), ("densenet121", True), ("swin_tiny_patch4_window7_224", True), ("resmlp_12_224", True),
     ("vit_tiny_patch16_224", False), ("test_vit2", False), ("test_convnext", False), ("lcnet_035", False)],
)  # fmt: skip
def test_the_last_map_is_what_is_averaged_or_the_embedding(name, averages):
    """A class token, a norm or a layer behind the average: there the classifier reads no place of a map."""
    size = create_model(f"timm:{name}", 5, 64).feature_shapes().last_map[1:]
    assert (size != (1, 1)) == averages


def test_activations_of_batch_norms_stay_when_processes_synchronise_them():
    ours, theirs = pair_of("lcnet_035", 32, False)
    ours = synchronise_batch_norm(ours, World(0, 2))
    norms = [part for part in ours.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    assert {type(part) for part in norms} == {SyncBatchNorm}
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = images(2, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_state_dicts_have_timms_keys_wherever_the_network_lies():
    """In a module of its own and as a part of another, whose other entries are left alone."""
    ours, theirs = pair_of("resnet10t", 32, False)
    whole = torch.nn.ModuleDict({"before": torch.nn.Linear(1, 1), "network": ours, "net": torch.nn.Linear(1, 1)})
    expected = ["before.weight", "before.bias", *(f"network.{key}" for key in theirs.state_dict())]
    state = whole.state_dict()
    assert list(state) == [*expected, "net.weight", "net.bias"]
    assert set(ours.state_dict()._metadata) == set(theirs.state_dict()._metadata)
    zeros = {key: torch.zeros_like(value) for key, value in state.items()}
    whole.load_state_dict(zeros)
    assert not any(value.any() for value in whole.state_dict().values())


@torch.no_grad()
def test_a_copy_is_a_network_of_its_own():
    ours, _ = pair_of("resnet10t", 32, False)
    x, other = images(2, 32), copy.deepcopy(ours.eval())
    assert torch.equal(ours(x), other(x))
    other.net.conv1[0].weight.mul_(2)
    assert not torch.equal(ours(x), other(x))
    other.train()
    assert other.net.training
    assert not ours.net.training
    other.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), other.eval()(x))


# --- images of another size ------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "built_for"), [(8, 32), (32, 24)])
@torch.no_grad()
def test_images_are_resized_as_by_pillow(size, built_for):
    torch.manual_seed(0)
    ours = create_model(f"timm:resnet10t@{built_for}", 5, size).eval()
    theirs = timm.create_model("resnet10t", num_classes=5).eval()
    theirs.load_state_dict(ours.state_dict())
    x = images(2, size)
    resized = [
        [np.asarray(Image.fromarray(channel).resize((built_for, built_for), Image.Resampling.BICUBIC)) for channel in y]
        for y in x.numpy()
    ]
    torch.testing.assert_close(ours(x), theirs(torch.tensor(np.array(resized))), rtol=1e-4, atol=1e-4)
    assert ours.image_size == size
    assert ours.feature_shapes().num_classes == 5


def test_a_network_for_224_px_looks_at_small_images():
    network = create_model("timm:vit_tiny_patch16_224@224", 10, 8)
    assert network.feature_shapes().stages[-1][1:] == (14, 14)
    with torch.device("meta"):
        theirs = timm.create_model("vit_tiny_patch16_224", num_classes=10)
    assert {key: v.shape for key, v in network.state_dict().items()} == {
        key: v.shape for key, v in theirs.state_dict().items()
    }


# --- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("timm:resnet18", "timm:resnet18"),
        ("timm:resnet18.a1_in1k", "timm:resnet18"),
        ("timm:mixer_b16_224", "timm:mixer_b16_224"),
        ("timm:mixer_b16_224.goog_in21k@0224", "timm:mixer_b16_224@224"),
    ],
)
def test_names(typed, canonical):
    assert MODELS.canonical(typed) == canonical
    assert typed in MODELS
    assert MODELS[typed].family == "timm"


UNKNOWN = [  # and what the message must name
    ("timm:resnet81", "timm:resnet18"),
    ("timm:qqqqqq", "timm:resnet18"),
    ("timm:", "timm:"),
    ("timn:resnet18", "timm:resnet18"),
    ("timm:resnet18@", "timm:resnet18@224"),
    ("timm:resnet18@0", "timm:resnet18@224"),
    ("timm:resnet18@224px", "timm:resnet18@224"),
    ("timm:resnet18@99999", "2048"),
    ("timm:resnet18@" + "9" * 5000, "2048"),
    ("timm:resnet18.a9_in1k", "a1_in1k"),
    ("timm:resnet18.@224", "a1_in1k"),
    ("timm:botnet50ts_256.c1_in1k", "c1_in1k"),
]


@pytest.mark.parametrize(("name", "named"), UNKNOWN)
def test_unknown_names(name, named):
    assert name not in MODELS
    with pytest.raises(RequestError) as refusal:
        create_model(name, 10, 32)
    assert named in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


UNFIT = [  # and what the message must name
    ("timm:vit_tiny_patch16_224", 8, "timm:vit_tiny_patch16_224@224"),
    ("timm:vit_tiny_patch16_224@8", 32, "timm:vit_tiny_patch16_224@224"),
    ("timm:mixer_s32_224", 8, "timm:mixer_s32_224@224"),
    ("timm:deit_tiny_distilled_patch16_224", 32, "deit_tiny_distilled"),
    ("timm:resnetv2_18", 32, "Conv2d"),
]


@pytest.mark.parametrize(("name", "size", "named"), UNFIT)
def test_networks_that_do_not_fit(name, size, named):
    with pytest.raises(RequestError) as refusal:
        create_model(name, 10, size)
    assert named in str(refusal.value)
    assert len(str(refusal.value).splitlines()) <= 2


@pytest.mark.parametrize(("name", "size"), [("timm:resnet18", 4096), ("timm:mixer_s32_224@256", 8)])
def test_networks_beyond_memory_are_not_built(name, size, monkeypatch):
    """The system would end the process without a word; here, at the size of a cap or of a small machine."""
    monkeypatch.setattr(timm_models, "memory_bytes", lambda: 2**20)
    with pytest.raises(RequestError) as refusal:
        create_model(name, 10, size)
    assert name.partition("@")[0] in str(refusal.value)
    assert len(str(refusal.value)) < 300


def test_the_look_at_its_size_leaves_a_network_as_it_was():
    torch.manual_seed(0)
    plain = timm.create_model("resnet18", pretrained=False, num_classes=10)
    torch.manual_seed(0)
    ours = create_model("timm:resnet18", 10, 32)
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in plain.state_dict().items())


# timm's name, image size, how many of its pixels whole patches cover in each direction
CUT = [
    ("vit_tiny_patch16_224", 40, 32),
    ("vit_tiny_patch16_224@40", 8, 32),
    large("mixer_s32_224", 60, 32),
    large("resmlp_12_224", 30, 16),
    large("gmlp_ti16_224", 60, 48),
    large("tnt_s_patch16_224", 60, 48),
    large("eva02_tiny_patch14_224", 32, 28),
    ("pit_ti_224", 60, 56),  # patches of 16 px, 8 px apart
    large("convmixer_768_32", 32, 28),  # a first convolution that moves by its kernel's size
    large("swin_tiny_patch4_window7_224", 30, 28),
]


@pytest.mark.parametrize(("name", "size", "covered"), CUT)
def test_patches_that_leave_a_margin_are_refused(name, size, covered):
    """The sizes that are named instead fit."""
    with pytest.raises(RequestError) as refusal:
        create_model(f"timm:{name}", 10, size)
    arch = name.partition("@")[0]
    for offered in (f"timm:{arch}@{covered}", f"timm:{arch}@224"):
        assert offered in str(refusal.value)
    assert create_model(f"timm:{arch}@{covered}", 10, size).built_for == covered


@pytest.mark.parametrize(
    ("name", "size"),
    [
        large("swin_tiny_patch4_window7_224", 60),  # windows are padded
        ("pit_ti_224", 40),  # no multiple of 16, but 16 px and three times 8
        ("mobilevit_xxs", 30),
        ("pvt_v2_b0", 30),
        large("tiny_vit_5m_224", 30),
        large("maxvit_tiny_tf_224", 60),
        ("resnet10t", 31),
    ],
)
def test_networks_that_read_all_of_an_image_are_not(name, size):
    image = images(1, size).requires_grad_()
    stem = create_model(f"timm:{name}", 10, size).eval().features(image).stem
    (gradient,) = torch.autograd.grad(stem.pow(3).sum(), image)
    assert gradient[..., -1, :].any()
    assert gradient[..., -1].any()


@pytest.mark.slow
def test_the_last_row_that_a_convolution_leaves_over_is_no_margin():
    """Kernels of 7 px, 4 px apart, with 2 px of padding reach 61 of 62 px."""
    assert create_model("timm:poolformer_s12", 10, 62).built_for == 62


def test_the_usual_size_is_taken_as_it_is():
    """Of SigLIP's 384 px with patches of 14 px timm's weights read 378."""
    network = timm.create_model("vit_tiny_patch16_224", patch_size=15, num_classes=10)
    assert TimmNetwork(network, "vit_tiny_patch16_224", 224, 224).feature_shapes().stem[1:] == (14, 14)


class Tiny(torch.nn.Module):
    """timm's interface, with a classifier called as Inception-v4's."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, stride=2)
        self.last_linear = torch.nn.Linear(4, 5)

    def forward_features(self, x):
        return self.conv(x)

    def forward_intermediates(self, x):
        return self.conv(x), [self.conv(x)]

    def forward_head(self, x, pre_logits=False):
        return x.mean(dim=(2, 3)) if pre_logits else self.last_linear(x.mean(dim=(2, 3)))

    def forward(self, x):
        return self.forward_head(self.forward_features(x))

    def get_classifier(self):
        return self.last_linear


def test_a_classifier_that_is_called_last_linear():
    network = TimmNetwork(Tiny(), "tiny", 8, 8)
    assert network.last_linear is network.net.last_linear
    assert network.averages_map
    assert "last_linear.weight" in network.state_dict()


@pytest.mark.slow
def test_inception_v4():
    ours, theirs = pair_of("inception_v4", 96, False)
    x = images(1, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:test_vit@224"])
def test_without_timm_it_is_asked_for(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RequestError, match=r"pip install timm==1\.0\.31"):
        create_model(name, 10, 32)


@pytest.mark.runs
def test_timm_is_imported_for_its_own_networks_only():
    code = "import sys, train_student; train_student.main(['--list']); print('timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), cwd=ROOT)
    *listed, imported = done.stdout.splitlines()
    assert imported == "False", done.stderr
    (line,) = [line for line in listed if "timm" in line]
    for named in ("timm:resnet18", "timm:NAME", "timm:NAME@224"):
        assert named in line


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("resnet10t", "repdistiller"),
        ("lcnet_035@64", "repdistiller"),
        ("mixer_b16_224", "deit"),
        ("resmlp_12_224", "deit"),
        ("swin_tiny_patch4_window7_224@224", "deit"),
        ("test_convnext", "deit"),
        ("test_maxvit", "deit"),  # batch norm and layer norm
    ],
)
def test_the_recipe_by_default(name, recipe):
    before = torch.get_rng_state()
    assert resolve_recipe(None, MODELS[f"timm:{name}"], {}).name == recipe
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("model", "name"),
    [("timm:mixer_b16_224@224", "timm_mixer_b16_224_224"), ("timm:resnet18", "timm_resnet18"), ("vgg8", "vgg8")],
)
def test_names_in_file_names(model, name):
    assert file_name_of(model) == name


@pytest.mark.parametrize("name", ["resnet18", large("resnet50")])
def test_torchvisions_resnets_load(name, tmp_path):
    """So do the checkpoints that it publishes, with which STD's paper teaches."""
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(num_classes=10).eval()
    path = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), path)
    ours = load_network(path, replace(DIGITS, image_size=64), arch=f"timm:{name}").network.eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)
