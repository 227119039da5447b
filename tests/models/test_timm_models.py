"""Networks of timm by name: equal to timm's own, resized as Pillow does, named, refused, trained and saved as ours."""

import copy
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import evaluate as evaluate_script
import train_student
from common.errors import RequestError
from engine.checkpoints.weights import load_network
from engine.protocol.recipes import resolve_recipe
from models import MODELS, create_model
from models.registry import file_name_of
from models.timm_models import TimmNetwork
from tests.helpers import (
    DIGITS,
    ROOT,
    arguments,
    assert_same,
    environment,
    folder_of,
    folders_of,
    load,
    outcome_of,
    read_json,
    read_metrics,
    stop_at_step,
    train,
)

timm = pytest.importorskip("timm")

# timm's name, image size, whether it takes img_size, whether its blocks have one shape
NETWORKS = [
    ("resnet10t", 32, False, False),
    ("resnet18", 32, False, False),
    ("lcnet_035", 32, False, False),  # batch norms that activate; a classifier behind a layer of its own
    ("densenet121", 32, False, False),
    ("test_convnext", 32, False, False),
    ("mixer_s32_224", 64, True, True),
    ("resmlp_12_224", 32, True, True),
    ("vit_tiny_patch16_224", 32, True, True),
    ("test_vit2", 32, True, True),  # averages its tokens, and norms behind that
    ("swin_tiny_patch4_window7_224", 32, True, False),
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
    assert [key for key, _ in ours.named_parameters()] == [key for key, _ in theirs.named_parameters()]
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
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


def test_activations_in_batch_norms_outlive_their_class():
    """Several processes give batch norms another class (engine/device/sync_batchnorm.py)."""
    ours, theirs = pair_of("lcnet_035", 32, False)
    norms = [part for part in ours.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    assert {type(part) for part in norms} == {torch.nn.BatchNorm2d}
    for part in norms:
        part.__class__ = type("Other", (torch.nn.BatchNorm2d,), {})
    x = images(2, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@torch.no_grad()
def test_a_copy_is_a_network_of_its_own():
    ours, _ = pair_of("resnet10t", 32, False)
    x, other = images(2, 32), copy.deepcopy(ours.eval())
    assert torch.equal(ours(x), other(x))
    other.conv1[0].weight.mul_(2)
    assert not torch.equal(ours(x), other(x))
    other.train()
    assert other._timm[0].training
    assert not ours._timm[0].training


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


@pytest.mark.parametrize("name", ["timm:swin_tiny_patch4_window7_224@224", "timm:vit_tiny_patch16_224@224"])
def test_a_network_for_224_px_looks_at_small_images(name):
    network = create_model(name, 10, 8)
    assert network.feature_shapes().stages[-1][1:] in ((7, 7), (14, 14))
    theirs = timm.create_model(name[5:].partition("@")[0], num_classes=10)
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


UNKNOWN = [
    ("timm:resnet81", r"unknown model 'timm:resnet81'; did you mean .*timm:resnet18"),
    ("timm:qqqqqq", r"unknown model 'timm:qqqqqq'; did you mean timm:\w+"),
    ("timm:", r"unknown model 'timm:'; did you mean timm:\w+"),
    ("timn:resnet18", r"unknown model 'timn:resnet18'; did you mean timm:resnet18"),
    ("timm:resnet18@", "behind @ stands an image size in pixels, as in timm:resnet18@224"),
    ("timm:resnet18@0", "behind @ stands an image size in pixels, as in timm:resnet18@224"),
    ("timm:resnet18@224px", "behind @ stands an image size in pixels, as in timm:resnet18@224"),
    ("timm:resnet18.a9_in1k", r"no weights 'a9_in1k' of timm:resnet18; there are a1_in1k, a2_in1k, .*, tv_in1k$"),
    ("timm:resnet18.@224", "no weights '' of timm:resnet18; there are a1_in1k"),
    ("timm:botnet50ts_256.c1_in1k", "timm:botnet50ts_256; there are none: leave the tag out"),
]


@pytest.mark.parametrize(("name", "sentence"), UNKNOWN)
def test_unknown_names(name, sentence):
    assert name not in MODELS
    with pytest.raises(RequestError, match=sentence) as refusal:
        create_model(name, 10, 32)
    assert len(str(refusal.value).splitlines()) == 1


UNFIT = [
    ("timm:vit_tiny_patch16_224", 8, r"cannot take images of 8×8 \(.*\); timm:vit_tiny_patch16_224@224 resizes them"),
    ("timm:vit_tiny_patch16_224@8", 32, r"cannot take images of 8×8 .*; timm:vit_tiny_patch16_224@224 resizes them"),
    ("timm:mixer_s32_224", 8, r"cannot take images of 8×8 .*; timm:mixer_s32_224@224 resizes them"),
    ("timm:deit_tiny_distilled_patch16_224", 32, "does not answer by one linear layer .*deit_tiny_distilled"),
    ("timm:resnetv2_18", 32, r"does not answer by one linear layer \(its classifier is a Conv2d\)"),
]


@pytest.mark.parametrize(("name", "size", "sentence"), UNFIT)
def test_networks_that_do_not_fit(name, size, sentence):
    with pytest.raises(RequestError, match=sentence) as refusal:
        create_model(name, 10, size)
    assert len(str(refusal.value).splitlines()) <= 2


# timm's name, image size, how many of its pixels whole patches cover in each direction
CUT = [
    ("vit_tiny_patch16_224", 40, 32),
    ("vit_tiny_patch16_224@40", 8, 32),
    ("mixer_s32_224", 60, 32),
    ("resmlp_12_224", 30, 16),
    ("gmlp_ti16_224", 60, 48),
    ("tnt_s_patch16_224", 60, 48),
    ("eva02_tiny_patch14_224", 32, 28),
    ("pit_ti_224", 60, 56),  # patches of 16 px, 8 px apart
    ("convmixer_768_32", 32, 28),  # a first convolution that moves by its kernel's size
    ("swin_tiny_patch4_window7_224", 30, 28),
]


@pytest.mark.parametrize(("name", "size", "covered"), CUT)
def test_patches_that_leave_a_margin_are_refused(name, size, covered):
    """The sizes that are named instead fit."""
    with pytest.raises(RequestError) as refusal:
        create_model(f"timm:{name}", 10, size)
    arch, _, built_for = name.partition("@")
    assert str(refusal.value) == (
        f"timm:{name} cannot take images of {built_for or size}×{built_for or size} "
        f"(its patches cover {covered}×{covered} of them); timm:{arch}@{covered} or timm:{arch}@224 resizes them"
    )
    assert create_model(f"timm:{arch}@{covered}", 10, size).built_for == covered


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("swin_tiny_patch4_window7_224", 60),  # windows are padded
        ("pit_ti_224", 40),  # no multiple of 16, but 16 px and three times 8
        ("mobilevit_xxs", 30),
        ("pvt_v2_b0", 30),
        ("tiny_vit_5m_224", 30),
        ("maxvit_tiny_tf_224", 60),
        ("resnet10t", 31),
    ],
)
def test_networks_that_read_all_of_an_image_are_not(name, size):
    image = images(1, size).requires_grad_()
    stem = create_model(f"timm:{name}", 10, size).eval().features(image).stem
    (gradient,) = torch.autograd.grad(stem.pow(3).sum(), image)
    assert gradient[..., -1, :].any()
    assert gradient[..., -1].any()


def test_the_last_row_that_a_convolution_leaves_over_is_no_margin():
    """Kernels of 7 px, 4 px apart, with 2 px of padding reach 61 of 62 px."""
    assert create_model("timm:poolformer_s12", 10, 62).built_for == 62


def test_the_usual_size_is_taken_as_it_is():
    """Of SigLIP's 384 px with patches of 14 px timm's weights read 378."""
    network = timm.create_model("vit_tiny_patch16_224", patch_size=15, num_classes=10)
    assert TimmNetwork(network, "vit_tiny_patch16_224", 224, 224).feature_shapes().stem[1:] == (14, 14)


def test_a_classifier_that_is_called_last_linear():
    ours, theirs = pair_of("inception_v4", 96, False)
    x = images(1, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    assert ours.last_linear is ours._timm[0].last_linear


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:swin_tiny_patch4_window7_224@224"])
def test_without_timm_it_is_asked_for(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RequestError, match=r"need the package timm: pip install timm==1\.0\.31"):
        create_model(name, 10, 32)


def test_timm_is_imported_for_its_own_networks_only():
    code = "import sys, train_student; train_student.main(['--list']); print('timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), cwd=ROOT)
    *listed, imported = done.stdout.splitlines()
    assert imported == "False", done.stderr
    (line,) = [line for line in listed if "timm" in line]
    assert re.match(r"  timm:resnet18 +any network of timm as timm:NAME, images resized as timm:NAME@224", line)


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


# --- whole runs ------------------------------------------------------------------------------------

TEACHER, STUDENT = "timm:test_vit@32", "timm:test_efficientnet"
ONE_EPOCH = ["--epochs", "1"]


@pytest.fixture(scope="module")
def state_dict(tmp_path_factory):
    """A plain state dict as timm's users save it, in a file whose name says nothing."""
    torch.manual_seed(3)
    network = timm.create_model("test_vit", img_size=32, num_classes=10)
    torch.nn.init.normal_(network.head.weight)
    path = tmp_path_factory.mktemp("timm") / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def runs(state_dict, tmp_path_factory):
    """Methods that read logits, maps and embeddings."""
    output = tmp_path_factory.mktemp("runs")
    extra = ["--model_t", TEACHER, *ONE_EPOCH]
    assert train("kd", "hint", "simkd", output=output, teacher=state_dict, student=STUDENT, extra=extra) == 0
    return output


@pytest.mark.parametrize("method", ["kd", "hint", "simkd"])
def test_a_run_with_both_from_timm(method, runs):
    folder = folder_of(runs, method)
    assert re.fullmatch(rf"S_timm_test_efficientnet_T_timm_test_vit_32_digits_{method}_[\w.]+", folder.name)
    config = read_json(folder / "config.json")
    assert (config["model"], config["teachers"][0]["model"]) == (STUDENT, TEACHER)
    assert np.isfinite(list(read_metrics(folder)[0]["train"].values())).all()


def test_a_tag_is_another_teacher_of_the_same_name(runs, state_dict):
    """Published weights of test_vit were trained with mean and deviation 0.5, which the digits have not."""
    extra = ["--model_t", "timm:test_vit.r160_in1k@32", *ONE_EPOCH]
    assert train("kd", output=runs / "tagged", teacher=state_dict, student=STUDENT, extra=extra) == 0
    folders = folder_of(runs, "kd"), folder_of(runs / "tagged")
    plain, tagged = (read_json(folder / "config.json")["teachers"][0] for folder in folders)
    assert plain["model"] == tagged["model"] == TEACHER
    assert plain["sha256"] == tagged["sha256"]
    assert (plain["normalisation"], tagged["normalisation"]) == (None, [[0.5] * 3, [0.5] * 3])
    assert plain["loss"] != tagged["loss"]
    assert folders[0].name != folders[1].name


def last_weights(folder):
    (path,) = folder.glob("*_last.pth")
    return path


def test_what_is_saved_is_read_by_us_and_by_timm(runs, capsys):
    """Our evaluation gives the recorded figure; in timm's network the weights fit as they are."""
    folder = folder_of(runs, "kd")
    path = last_weights(folder)
    capsys.readouterr()
    argv = ["--path", str(path), "--dataset", "digits", "--device", "cpu", "--precision", "fp32"]
    assert evaluate_script.main(argv) == 0
    last = read_json(folder / "result.json")["last"]
    assert f"Acc@1 {last['top1']:.2f} " in capsys.readouterr().out
    timm.create_model("test_efficientnet", num_classes=10).load_state_dict(load(path)["model"], strict=True)


def test_std_takes_a_student_of_blocks(teacher, tmp_path):
    extra = [*ONE_EPOCH, "--recipe", "light", "--batch_size", "260"]
    assert train("std", output=tmp_path, teacher=teacher, student="timm:test_vit@32", extra=extra) == 0
    assert set(read_metrics(folder_of(tmp_path))[0]["train"]) == {"loss", "ce", "std", "top1"}


def test_a_stopped_run_ends_as_if_it_had_not_been(tmp_path, teacher, monkeypatch):
    assert train("kd", output=tmp_path / "whole", teacher=teacher, student=STUDENT) == 0
    with monkeypatch.context() as patch:
        stop_at_step(patch, 2, 3)
        assert train("kd", output=tmp_path / "cut", teacher=teacher, student=STUDENT) == 130
    assert train("kd", output=tmp_path / "cut", teacher=teacher, student=STUDENT) == 0
    assert_same(outcome_of(folder_of(tmp_path / "cut")), outcome_of(folder_of(tmp_path / "whole")))


def test_a_wrong_name_is_refused_before_anything_is_written(tmp_path, capsys):
    assert train_student.main(arguments("none", output=tmp_path, student="timm:resnet81")) == 2
    assert capsys.readouterr().err.startswith("error: unknown model 'timm:resnet81'; did you mean ")
    assert folders_of(tmp_path) == []


def test_weights_of_another_network_are_refused(state_dict, tmp_path, capsys):
    argv = arguments("kd", output=tmp_path, teacher=state_dict, extra=["--model_t", "timm:test_resnet"])
    assert train_student.main(argv) == 2
    assert "does not hold a timm:test_resnet" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
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
