"""Reading networks from files: ours, others', and what only looks like one. Nothing in a file is ever run."""

import argparse
import json
import pickle
import sys
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import evaluate as evaluate_script
from common.errors import RequestError
from common.files import sha256_of
from dataset import DATASETS
from dataset.augment import normalise
from distiller_zoo import Pair, create_method
from engine.checkpoints.inference_network import InferenceNetwork
from engine.checkpoints.read_checkpoint import read_checkpoint
from engine.checkpoints.weights import TrainedMethod, WeightsHeader, load_network, save_weights
from models import create_model
from models.published_checkpoints import HUB_MEAN, HUB_STD
from tests.helpers import DIGITS, ROOT, folder_of, load, read_json, save_network, train

CIFAR100 = DATASETS["cifar100"]
SHARED = ROOT.parent / "shared"
PUBLISHED = SHARED / "teachers" / "cifar100_resnet56-f2eff4c8.pt"
NO_PUBLISHED = f"no {PUBLISHED.name} in ../shared/teachers"


def network(arch="resnet8", entry=DIGITS):
    torch.manual_seed(1)
    return create_model(arch, entry.num_classes, entry.image_size).eval()


def images(size=8, count=4):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def refusal(path, entry=DIGITS, **options):
    with pytest.raises(RequestError) as refused:
        load_network(path, entry, **options)
    text = str(refused.value)
    assert len(text.splitlines()) <= 2
    assert str(path) in text
    return text


def test_an_archive_that_would_fill_the_memory_is_refused_by_what_it_declares(tmp_path):
    path = put(tmp_path / "resnet8.pth", network().state_dict())
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        for record in archive.infolist():
            bomb.writestr(record.filename, archive.read(record))
        bomb.writestr("resnet8/data/99", bytes(80 << 20))
    assert "MiB" in refusal(tmp_path / "bomb.pth")
    lying = bytearray(path.read_bytes())
    entry = lying.index(b"PK\x01\x02")
    lying[entry + 24 : entry + 28] = (0x7FFFFFFF).to_bytes(4, "little")  # the size of its first record
    (tmp_path / "lying.pth").write_bytes(lying)
    assert "MiB" in refusal(tmp_path / "lying.pth")


# --- forms of a file -----------------------------------------------------------------------------

FORMS = {
    "raw": lambda state: state,
    "ordered": lambda state: OrderedDict(state),
    "model": lambda state: {"model": state, "epoch": 240, "best_acc": 70.0},
    "state_dict": lambda state: {"state_dict": state},
    "DataParallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "model of DataParallel": lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
    "half": lambda state: {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
    "PyTorch 0.4.0": lambda state: {key: v for key, v in state.items() if not key.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form, tmp_path):
    original = network()
    if form == "half":
        original = original.half().float()
    path = put(tmp_path / "file.pth", FORMS[form](original.state_dict()))
    loaded = load_network(path, DIGITS, arch="resnet8")
    assert torch.equal(loaded.network(images()), original(images()))
    assert not loaded.network.training
    assert not any(p.requires_grad for p in loaded.network.parameters())


def test_loading_is_strict(tmp_path):
    state = network().state_dict()
    missing = {key: value for key, value in state.items() if key != "conv1.weight"}
    assert "conv1.weight" in refusal(put(tmp_path / "a.pth", missing), arch="resnet8")
    surplus = state | {"another.weight": torch.zeros(1)}
    assert "another.weight" in refusal(put(tmp_path / "b.pth", surplus), arch="resnet8")
    reshaped = state | {"conv1.weight": torch.zeros(16, 3, 5, 5)}
    text = refusal(put(tmp_path / "c.pth", reshaped), arch="resnet8")
    for named in ("conv1.weight", "(16, 3, 5, 5)", "(16, 3, 3, 3)"):
        assert named in text


def test_wrong_network_and_wrong_classes(tmp_path):
    path = put(tmp_path / "file.pth", network().state_dict())
    assert "resnet14" in refusal(path, arch="resnet14")
    assert "mixer_pico" in refusal(path, arch="mixer_pico")
    text = refusal(path, entry=replace(DIGITS, num_classes=7), arch="resnet8")
    for named in ("10 classes", "7", "--dataset"):
        assert named in text


def without_head(state, name):
    return {key: value for key, value in state.items() if not key.startswith(f"{name}.")}


HEADS = {
    "own classifier": (lambda state, name: state, 10),
    "none": (without_head, 0),
    "no bias": (lambda state, name: {key: value for key, value in state.items() if key != f"{name}.bias"}, 0),
    "a projection in its place": (
        lambda state, name: without_head(state, name) | {f"{name}.0.weight": torch.ones(9, 3)},
        0,
    ),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("arch", ["resnet8", "vit_pico"])
def test_any_classes_on_request(head, arch, tmp_path):
    """The body is the file's, whatever its classifier is."""
    saved, few = network(arch), replace(DIGITS, num_classes=7)
    change, classes = HEADS[head]
    path = put(tmp_path / f"{arch}.pth", change(saved.state_dict(), saved.classifier_name))
    refusal(path, entry=few)
    loaded = load_network(path, few, any_classes=True)
    assert loaded.num_classes == classes
    assert loaded.arch == arch
    found, expected = loaded.network.features(images()), saved.features(images())
    assert torch.equal(found.embedding, expected.embedding)
    assert torch.equal(found.stages[0], expected.stages[0])
    assert torch.equal(found.logits, expected.logits) == bool(classes)


def test_any_classes_of_a_network_with_two_classifiers(tmp_path):
    saved = network("deit_pico_distilled")
    path = put(tmp_path / "deit_pico_distilled.pth", saved.state_dict())
    loaded = load_network(path, replace(DIGITS, num_classes=7), any_classes=True)
    assert loaded.num_classes == 10
    assert torch.equal(loaded.network(images()), saved(images()))


def test_any_classes_are_no_other_network(tmp_path):
    path = put(tmp_path / "file.pth", without_head(network().state_dict(), "fc"))
    for arch in ("resnet14", "mixer_pico"):
        assert arch in refusal(path, arch=arch, any_classes=True)
    reshaped = without_head(network().state_dict(), "fc") | {"conv1.weight": torch.zeros(16, 3, 5, 5)}
    refusal(put(tmp_path / "reshaped.pth", reshaped), arch="resnet8", any_classes=True)


@pytest.mark.slow
def test_a_foundation_model_of_timm_has_no_classifier(tmp_path):
    timm = pytest.importorskip("timm")
    arch = "vit_small_patch14_dinov2"
    torch.manual_seed(0)
    saved = timm.create_model(arch, pretrained=False, num_classes=0, img_size=28).eval()
    path = put(tmp_path / "dinov2.pth", saved.state_dict())
    loaded = load_network(path, DIGITS, arch=f"timm:{arch}.lvd142m@28", any_classes=True)
    assert (loaded.num_classes, loaded.arch) == (0, f"timm:{arch}@28")
    assert loaded.normalisation_override is not None
    pixels = torch.rand(2, 3, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(loaded.network.network._features(pixels).embedding, saved(pixels))


# --- which network -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("wrn_40_2_vanilla/ckpt_epoch_240.pth", "wrn_40_2"),
        ("cifar100_resnet56-f2eff4c8.pt", "resnet56"),
        ("resnet32x4_vanilla/ckpt_epoch_240.pth", "resnet32x4"),
        ("resnet8x4_best.pth", "resnet8x4"),
        ("S:resnet8_T:resnet32_cifar100_kd/resnet8_last.pth", "resnet8"),
        ("ShuffleV2_vanilla/ckpt_epoch_240.pth", "ShuffleV2"),
    ],
)
def test_network_is_known_by_the_name_of_the_file(tmp_path, name, arch):
    path = put(tmp_path / name, {"model": network(arch, CIFAR100).state_dict()})
    assert load_network(path, CIFAR100).arch == arch


@pytest.mark.parametrize("name", ["file.pth", "resnet8_resnet14/ckpt.pth", "resnet8_or_resnet14.pth", "resnet8y.pth"])
def test_names_that_do_not_tell_ask_for_the_network(tmp_path, name):
    path = put(tmp_path / name, network().state_dict())
    assert "--model_t" in refusal(path)
    assert load_network(path, DIGITS, arch="resnet8").arch == "resnet8"


def test_our_files_say_which_network_they_hold(tmp_path):
    path = tmp_path / "resnet56.pth"  # whatever the name says
    original = save_network(path, "resnet8")
    loaded = load_network(path, DIGITS)
    assert loaded.arch == "resnet8"
    assert torch.equal(loaded.network(images()), original(images()))


# --- safetensors -----------------------------------------------------------------------------------


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    original = network()
    for name, arch in (("model.safetensors", "resnet8"), ("resnet8.safetensors", None)):
        safetensors.save_file(original.state_dict(), tmp_path / name)
        loaded = load_network(tmp_path / name, DIGITS, arch=arch)
        assert torch.equal(loaded.network(images()), original(images()))
    assert "--model_t" in refusal(tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    pickled = put(tmp_path / "pickled.pth", original.state_dict()).read_bytes()
    for other in (b"", content[:5], content[:100], content[:-1], b"\xff" * 50, b"<html>404</html>", pickled):
        (tmp_path / "resnet8.safetensors").write_bytes(other)
        refusal(tmp_path / "resnet8.safetensors")


def test_without_the_package_safetensors_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    assert "pip install safetensors" in refusal(path, arch="resnet8")


# --- files that hold more than weights -------------------------------------------------------------


def test_namespace_of_repdistiller(tmp_path):
    options = argparse.Namespace(model="resnet8", lr=0.05, decay=[150, 180])
    path = put(tmp_path / "resnet8_last.pth", {"opt": options, "model": network().state_dict()})
    text = refusal(path)
    assert "argparse.Namespace" in text
    assert "--allow_namespace" in text
    loaded = load_network(path, DIGITS, allow_namespace=True)
    assert torch.equal(loaded.network(images()), network()(images()))
    refusal(path)  # the permission has ended


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


class Call:
    """Pickles as any global with any arguments."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_is_run(tmp_path, allow, legacy):
    import os

    created = tmp_path / "created"
    traps = [Trap(str(created)), Call(os.system, f"touch {created}"), Call(exec, f"open({str(created)!r}, 'w')")]
    for trap in (*traps, argparse.Namespace(inner=traps[0])):
        path = tmp_path / "resnet8_last.pth"
        torch.save({"opt": trap, "model": network().state_dict()}, path, _use_new_zipfile_serialization=not legacy)
        text = refusal(path, allow_namespace=allow)
        assert allow or "argparse.Namespace" in text or "pickled" in text
        path.write_bytes(pickle.dumps({"opt": trap}))
        refusal(path, allow_namespace=allow)
    assert not created.exists()


def test_pickled_network_is_explained(tmp_path):
    path = put(tmp_path / "resnet8.pth", network())
    text = refusal(path)
    assert "ResNet" in text
    assert "torch.save(model.state_dict()" in text


# --- files that are no checkpoint ------------------------------------------------------------------


def test_broken_files(tmp_path):
    whole = tmp_path / "resnet8.pth"
    save_network(whole)
    content = whole.read_bytes()
    for size in (0, 1, 100, len(content) // 2, len(content) - 1):
        path = tmp_path / f"resnet8_{size}.pth"
        path.write_bytes(content[:size])
        refusal(path)
    for other in (b"a text\n", b"<html>404</html>", b"PK\x03\x04", b"\x89PNG\r\n"):
        path = tmp_path / "other.pth"
        path.write_bytes(other)
        refusal(path)


def test_folders_and_nothing(tmp_path):
    assert "folder" in refusal(tmp_path)
    refusal(tmp_path / "missing.pth")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(tmp_path, content):
    path = tmp_path / "bytes.pth"
    path.write_bytes(content)
    with pytest.raises(RequestError):
        read_checkpoint(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_refused_in_words_or_harmless(tmp_path, data):
    path = tmp_path / "resnet8.pth"
    torch.save({"model": {"a": torch.zeros(2), "b": torch.ones(3)}, "epoch": 3}, path)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with pytest.raises(RequestError):  # where the damage is harmless: this is no resnet8
        load_network(path, DIGITS)


@pytest.mark.parametrize(
    "content",
    [[1, 2], 3, torch.zeros(3), {}, {"model": {}}, {"epoch": 3}, {3: torch.zeros(1)}, {"model": {"a": 1}}],
    ids=str,
)
def test_other_contents(tmp_path, content):
    assert "state" in refusal(put(tmp_path / "resnet8.pth", content))


def test_training_checkpoint_is_not_a_network(tmp_path):
    state = {"format": 1, "run_id": "0", "student": network().state_dict(), "optimizer": {}, "position": [1, 0]}
    assert "unfinished run" in refusal(put(tmp_path / "resnet8.pth", state))


def test_forged_files_of_ours(tmp_path):
    state = network().state_dict()
    bare = put(tmp_path / "bare.pth", {"format": 1, "arch": "resnet8", "model": state})
    assert load_network(bare, DIGITS).arch == "resnet8"
    save_network(tmp_path / "whole.pth")
    whole = load(tmp_path / "whole.pth")
    for method in ({}, {"name": "std"}, {"name": "std", "options": {}, "teachers": [{"x": 1}], "num_samples": 1}):
        refusal(put(tmp_path / "forged.pth", whole | {"method": method or {"name": 3}}))
    unknown = put(tmp_path / "unknown.pth", whole | {"arch": "resnet9000"})
    with pytest.raises(RequestError, match="resnet9000"):
        load_network(unknown, DIGITS)


# --- heads and normalisation -----------------------------------------------------------------------


@pytest.mark.parametrize("modules", ["last", "last+intermediate"])
def test_std_student_predicts_as_it_did(tmp_path, modules):
    student, teacher = network("mixer_pico"), network("resnet8")
    torch.nn.init.normal_(student.head.weight)
    pair = Pair(student.feature_shapes(), (teacher.feature_shapes(),), 1297)
    torch.manual_seed(4)
    method = create_method("std", pair, {"std_modules": modules})
    path = tmp_path / "student.pth"
    measured = {"top1": 1.0, "top5": 2.0, "loss": 3.0}
    trained = TrainedMethod(method, pair, {"std_modules": modules})
    save_weights(path, student, WeightsHeader("mixer_pico", DIGITS, 1, measured, trained))
    loaded = load_network(path, DIGITS).network
    expected = InferenceNetwork(student, method).eval()(images())
    assert torch.equal(loaded(images()), expected)
    assert torch.equal(loaded.features(images()).logits, expected)  # as a teacher
    assert not torch.allclose(student(images()), expected)


@pytest.mark.runs
def test_std_student_teaches(tmp_path, capsys):
    save_network(tmp_path / "teacher.pth")
    short = {"extra": ["--epochs", "1", "--batch_size", "433"]}
    assert train("std", output=tmp_path / "a", teacher=tmp_path / "teacher.pth", student="mixer_pico", **short) == 0
    folder = folder_of(tmp_path / "a")
    weights = folder / "mixer_pico_last.pth"
    capsys.readouterr()
    assert evaluate_script.main(["--path", str(weights), "--dataset", "digits", "--device", "cpu", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["top1"] == read_json(folder / "result.json")["last"]["top1"]
    assert train("kd", output=tmp_path / "b", teacher=weights, **short) == 0
    (teacher,) = read_json(folder_of(tmp_path / "b") / "config.json")["teachers"]
    assert teacher["top1"] == measured["top1"]


def test_inputs_are_normalised_as_in_training(tmp_path):
    other = replace(DIGITS, name="digits", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    path = tmp_path / "other.pth"
    original = save_network(path, entry=other)
    raw = torch.randint(256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    loaded = load_network(path, DIGITS).network
    found = loaded(normalise(raw, DIGITS.mean, DIGITS.std))
    direct = (raw.double() / 255 - torch.tensor(other.mean).view(3, 1, 1)) / torch.tensor(other.std).view(3, 1, 1)
    torch.testing.assert_close(found, original(direct.float()), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, original(normalise(raw, DIGITS.mean, DIGITS.std)), rtol=1e-2)


TAGGED = "timm:test_vit.r160_in1k@32"  # trained with mean and deviation 0.5


def test_a_tag_says_how_timm_normalised(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit", img_size=32, num_classes=10).eval()
    path = put(tmp_path / "file.pth", theirs.state_dict())
    entry = replace(DIGITS, image_size=32)
    raw = torch.randint(256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    seen = normalise(raw, DIGITS.mean, DIGITS.std)
    tagged, plain = (load_network(path, entry, arch=arch) for arch in (TAGGED, "timm:test_vit@32"))
    torch.testing.assert_close(tagged.network(seen), theirs(raw / 127.5 - 1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(plain.network(seen), theirs(seen))
    assert tagged.arch == plain.arch == "timm:test_vit@32"
    assert (tagged.normalisation_override, plain.normalisation_override) == (((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), None)
    assert tagged.sha256 == plain.sha256 == sha256_of(path)
    alike = replace(entry, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    same = load_network(path, alike, arch=TAGGED)
    assert same.network.renormalise is None
    assert same.normalisation_override is None


def test_our_files_know_better_than_a_tag(tmp_path):
    pytest.importorskip("timm")
    save_network(tmp_path / "ours.pth", "timm:test_vit@32")
    loaded = load_network(tmp_path / "ours.pth", DIGITS, arch=TAGGED)
    assert loaded.network.renormalise is None
    assert loaded.normalisation_override is None


@pytest.mark.skipif(not PUBLISHED.is_file(), reason=NO_PUBLISHED)
def test_published_teacher_gets_its_own_normalisation():
    loaded = load_network(PUBLISHED, CIFAR100)
    assert loaded.arch == "resnet56"
    raw = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    plain = create_model("resnet56", 100, 32).eval()
    plain.load_state_dict(torch.load(PUBLISHED, weights_only=True))
    expected = plain(normalise(raw, HUB_MEAN, HUB_STD))
    found = loaded.network(normalise(raw, CIFAR100.mean, CIFAR100.std))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert loaded.network.renormalise is not None


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_file(), reason=NO_PUBLISHED)
@pytest.mark.skipif(not (SHARED / "data" / "cifar100").is_dir(), reason="no CIFAR-100 in ../shared/data")
def test_published_teacher_is_as_good_as_published(tmp_path, capsys, monkeypatch):
    data = next((folder for folder in (ROOT / "data", SHARED / "data") if usable(folder / "cifar100")), None)
    if data is None:
        import runpy

        monkeypatch.setattr(sys, "argv", ["unpack_cifar100.py", str(tmp_path)])
        runpy.run_path(str(SHARED / "data" / "unpack_cifar100.py"), run_name="__main__")
        data = tmp_path
    command = ["--path", str(PUBLISHED), "--data_folder", str(data), "--device", "cpu"]
    assert evaluate_script.main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("Acc@1 72.63 Acc@5 91.94 loss ")


def usable(folder: Path) -> bool:
    return (folder / "test_images.npy").is_file() and np.load(folder / "test_images.npy", mmap_mode="r").ndim == 4
