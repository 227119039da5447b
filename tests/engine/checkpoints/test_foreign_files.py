"""Checkpoints as other tools write them: one rule finds the weights, and what cannot be read is refused with advice."""

import collections
import datetime
import io
import json
import pathlib
import tarfile
import zipfile
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

import evaluate
import train_student
from common.errors import RequestError
from engine.checkpoints.find_weights import WeightsChoice
from engine.checkpoints.frozen_backbone import load_backbone
from engine.checkpoints.start_weights import read_start_weights
from engine.checkpoints.weights import load_network
from models import MODELS, create_model
from tests.helpers import DIGITS, SMALL, folder_of, read_json, save_network, train_alone

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # files of it stay around


def state(seed=1, arch="resnet8", classes=10):
    torch.manual_seed(seed)
    return create_model(arch, classes, DIGITS.image_size).state_dict()


A, B, LARGER, OTHER_CLASSES = state(1), state(2), state(3, "resnet14"), state(4, classes=7)


def under(prefix, weights):
    return {prefix + name: value for name, value in weights.items()}


def mapped(change, weights=A):
    return {name: change(value) if value.dim() == 4 else value for name, value in weights.items()}


def as_mmcls(weights):
    return {("head." if name.startswith("fc") else "backbone.") + name: value for name, value in weights.items()}


def counted_by_thop():
    counters = [name.rpartition(".")[0] for name in A]
    return A | {
        f"{name}.{kind}": torch.zeros(1).double() for name in counters for kind in ("total_ops", "total_params")
    }


def split(weights):
    head = {name: value for name, value in weights.items() if name.startswith("fc")}
    return {"backbone": {name: value for name, value in weights.items() if name not in head}, "head": head}


def nested():
    """A dictionary for each layer."""
    tree = {}
    for name, value in A.items():
        *parts, last = name.split(".")
        place = tree
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = value
    return tree


def holding_itself():
    content = {"net": A}
    content["self"] = content
    return content


def optimizer():
    weight = torch.nn.Parameter(torch.ones(3, 3))
    adam = torch.optim.Adam([weight])
    weight.sum().backward()
    adam.step()
    return adam.state_dict()


HARMLESS = {
    "accuracy": np.float64(91.5),
    "epoch": np.int32(3),
    "good": np.bool_(True),
    "history": np.arange(4.0),
    "words": np.array(["a", "b"]),
    "path": pathlib.PurePosixPath("x"),
    "when": datetime.datetime(2026, 1, 1),
    "lists": collections.defaultdict(list, {"a": [1]}),
    "version": torch.__version__,
    "set": {1, 2},
    "frozen": frozenset({1}),
    "counter": collections.Counter("ab"),
    "scaler": {"scale": torch.tensor(65536.0), "_growth_tracker": torch.tensor(3)},
}
LIGHTNING = {
    "state_dict": under("model.", A) | {"criterion.weight": torch.ones(10)},
    "optimizer_states": [optimizer()],
    "lr_schedulers": [{"last_epoch": 3}],
    "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
    "pytorch-lightning_version": "2.4.0",
}
BORN_AGAIN = {"model": under("module.student.", A) | under("module.teacher.", B), "optimizer": optimizer()}


@dataclass
class File:
    """The content of a file, which weights it gives ("A" or "B"), and what the line on it must mention."""

    content: object
    gives: str = "A"
    said: tuple[str, ...] = ()
    choice: dict = field(default_factory=dict)


READ = {
    "net": File({"net": A, "acc": 91.2}, said=("net",)),
    "network and optimizer": File({"network": A, "optimizer": optimizer()}, said=("network",)),
    "deep": File({"a": {"b": (3, {"model_state_dict": A})}}, said=("a.b.1.model_state_dict",)),
    "a list": File([A, 3]),
    "ordered": File({"weights": collections.OrderedDict(A)}, said=("weights",)),
    "parameters": File({name: torch.nn.Parameter(v) if v.is_floating_point() else v for name, v in A.items()}),
    "data-parallel": File(under("module.", A), said=("module.",)),
    "compiled and parallel": File({"model": under("_orig_mod.module.", A)}, said=("model", "_orig_mod.module.")),
    "a compiled part": File({name.replace("layer1.", "layer1._orig_mod."): value for name, value in A.items()}),
    "Lightning": File(LIGHTNING, said=("state_dict", "'model.'", "criterion")),
    "mmcls": File({"state_dict": as_mmcls(A), "meta": {"epoch": 1}}, said=("backbone.", "head.")),
    "compiled mmcls": File({"state_dict": under("module.", as_mmcls(A))}, said=("backbone.", "head.")),
    "in two dictionaries": File(split(A)),
    "thop": File(counted_by_thop(), said=("counters",)),
    "AveragedModel": File(under("module.", A) | {"n_averaged": torch.tensor(3)}, said=("counter",)),
    "distiller": File(under("module.student.", A) | under("module.teacher.", LARGER), said=("student", "teacher")),
    "born again": File(BORN_AGAIN, choice={"key": "student"}, said=("student",)),
    "its teacher": File(BORN_AGAIN, gives="B", choice={"key": "model.module.teacher"}, said=("teacher",)),
    "mmcls distiller": File(
        under("student.", as_mmcls(A)) | under("teacher.", as_mmcls(B)), gives="B", choice={"key": "teacher"}
    ),
    "teacher inside": File(A | under("teacher.", B), choice={"key": "."}, said=("teacher",)),
    "timm": File({"state_dict": A, "state_dict_ema": B, "arch": "resnet18"}, said=("state_dict_ema", "--ema")),
    "timm's average": File({"state_dict": A, "state_dict_ema": B}, "B", ("averaged",), {"averaged": True}),
    "model_ema of DDP": File({"model": A, "model_ema": under("module.", B)}, gives="B", choice={"averaged": True}),
    "average alone": File({"ema": A}, said=("averaged",)),
    "ema-pytorch": File(under("online_model.", A) | under("ema_model.", B) | {"initted": torch.tensor(True)}),
    "one twice": File({"model": A, "net": {name: value.clone() for name, value in A.items()}}),
    "DeepSpeed": File({"module": A, "lr_scheduler": None}, said=("module",)),
    "memory beside": File({"model": A, "contrast": {"memory_v1": torch.ones(20, 8)}}),
    "moments by name": File({"model": A, "moments": {name: {"exp_avg": value} for name, value in A.items()}}),
    "another network beside": File({"model": A, "critic": LARGER}),
    "other classes beside": File({"model": A, "pretrained": OTHER_CLASSES}),
    "layer by layer": File(nested()),
    "numpy arrays": File({name: value.numpy() for name, value in A.items()}),
    "harmless values": File({"model": A} | HARMLESS),
    "a key without letters": File({"": A, "b": B}, choice={"key": "."}),
    "it holds itself": File(holding_itself(), said=("net",)),
}  # fmt: skip

REFUSED = {
    "two": ({"a": A, "b": B}, {}, ("'a'", "'b'", "--weights_key")),
    "born again": (BORN_AGAIN, {}, ("student", "teacher", "--weights_key")),
    "mmcls distiller": (under("student.", as_mmcls(A)) | under("teacher.", as_mmcls(B)), {}, ("--weights_key",)),
    "clients by number": ({0: A, 1: B}, {}, ("'0'", "'1'", "--weights_key")),
    "unknown key": (BORN_AGAIN, {"key": "pupil"}, ("--weights_key", "pupil", "student", "teacher")),
    "nothing at the top": ({"model": A}, {"key": "."}, ("--weights_key", "'model'")),
    "long keys": ({"x" * 5000: A, "y\n\x1b": B}, {}, ("--weights_key",)),
    "no average": ({"model": A}, {"averaged": True}, ("--ema",)),
    "another network": ({"net": LARGER}, {}, ("resnet8", "resnet14", "--model_t")),
    "another average": ({"state_dict": LARGER, "state_dict_ema": LARGER}, {}, ("resnet14",)),
    "other classes": ({"state_dict": under("model.", OTHER_CLASSES)}, {}, ("7 classes", "10", "--dataset")),
    "one layer more": (A | {"layer1.0.act.weight": torch.ones(1)}, {}, ("layer1.0.act.weight",)),
    "optimizer alone": ({"optimizer": optimizer()}, {}, ("state_dict",)),
    "scalars alone": ({"model": {"loss": torch.tensor(1.0)}}, {}, ("state_dict",)),
    "integers": (mapped(lambda value: (100 * value).to(torch.int8)), {}, ("conv1.weight", "int8")),
    "integer vector": (A | {"fc.bias": torch.ones(10, dtype=torch.int64)}, {}, ("fc.bias", "int64")),
    "complex": (mapped(lambda value: value.to(torch.complex64)), {}, ("conv1.weight", "complex")),
    "sparse": (mapped(torch.Tensor.to_sparse), {}, ("conv1.weight", "sparse", "to_dense")),
    "quantised": (mapped(lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)), {}, ("quantised",)),
    "meta": (mapped(lambda value: value.to("meta")), {}, ("conv1.weight", "meta")),
    "not a number": (A | {"bn1.weight": A["bn1.weight"] * float("nan")}, {}, ("bn1.weight", "NaN")),
    "infinite": (A | {"bn1.running_var": A["bn1.running_var"] / 0}, {}, ("bn1.running_var",)),
    "beyond fp32": (A | {"fc.bias": torch.full((10,), 1e300, dtype=torch.float64)}, {}, ("fc.bias",)),
}  # fmt: skip


PROTOCOLS = {
    "now": {"pickle_protocol": 4},
    "latest": {"pickle_protocol": 5},
    "former": {"pickle_protocol": 4, "_use_new_zipfile_serialization": False},
}


@pytest.mark.parametrize("case", PROTOCOLS)
def test_pickles_of_a_later_protocol(case, tmp_path):
    """They are whole: to fetch them again would be no help."""
    torch.save({"model": A}, tmp_path / "resnet8.pth", **PROTOCOLS[case])
    with pytest.raises(RequestError, match="pickle_protocol"):
        load_network(tmp_path / "resnet8.pth", DIGITS)


def saved(content, tmp_path, name="resnet8.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


def images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("case", READ)
def test_read(case, tmp_path):
    file = READ[case]
    loaded = load_network(saved(file.content, tmp_path), DIGITS, choice=WeightsChoice(**file.choice))
    expected = create_model("resnet8", 10, DIGITS.image_size).eval()
    expected.load_state_dict({"A": A, "B": B}[file.gives])
    assert torch.equal(loaded.network(images()), expected(images()))
    for words in file.said:
        assert words in loaded.note
    assert len(loaded.note.splitlines()) <= 1


@pytest.mark.parametrize("content", [A, {"model": A, "epoch": 240}], ids=["bare", "model"])
def test_nothing_is_said_of_plain_files(content, tmp_path):
    loaded = load_network(saved(content, tmp_path), DIGITS)
    assert loaded.note == ""
    assert loaded.weights_key is None


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tmp_path):
    content, choice, mentioned = REFUSED[case]
    path = saved(content, tmp_path)
    with pytest.raises(RequestError) as refusal:
        load_network(path, DIGITS, choice=WeightsChoice(**choice))
    text = str(refusal.value)
    assert len(text.splitlines()) <= 2
    assert len(text) < 700
    for words in (str(path), *mentioned):
        assert words in text


def test_one_file_with_two_networks_is_two_teachers(tmp_path):
    """And not what it was before such choices were possible."""
    path = saved(BORN_AGAIN, tmp_path)
    keys = {load_network(path, DIGITS, choice=WeightsChoice(key)).weights_key for key in ("student", "teacher")}
    assert len(keys) == 2
    assert None not in keys
    averaged = saved({"state_dict": A, "state_dict_ema": B}, tmp_path)
    assert load_network(averaged, DIGITS).weights_key is None
    assert load_network(averaged, DIGITS, choice=WeightsChoice("state_dict")).weights_key is None
    assert load_network(averaged, DIGITS, choice=WeightsChoice(averaged=True)).weights_key == "state_dict_ema"


BACKBONES = {
    "Lightning": File(LIGHTNING),
    "mmcls of other classes": File(
        {"state_dict": as_mmcls(A | {n: OTHER_CLASSES[n] for n in ("fc.weight", "fc.bias")})}
    ),
    "without classifier": File({"backbone": split(A)["backbone"]}),
    "teacher": File(BORN_AGAIN, "B", choice={"key": "teacher"}),
    "averaged": File({"state_dict": A, "ema": B}, "B", choice={"averaged": True}),
}


@pytest.mark.parametrize("case", BACKBONES)
def test_a_backbone_needs_no_classifier(case, tmp_path):
    file = BACKBONES[case]
    backbone = read_start_weights(saved(file.content, tmp_path), image_size=8, choice=WeightsChoice(**file.choice))
    assert backbone.note
    assert (backbone.weights_key is None) == (not file.choice)
    network = create_model("resnet8", 10, DIGITS.image_size)
    load_backbone(network, backbone)
    expected = {"A": A, "B": B}[file.gives]
    assert all(torch.equal(value, expected[n]) for n, value in network.state_dict().items() if not n.startswith("fc"))


# --- what is no checkpoint -------------------------------------------------------------------------


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return buffer.getvalue()


def tarred():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("teachers/a.pth"))
    return buffer.getvalue()


def arrays():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    return buffer.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
KINDS = {
    "Git LFS pointer": (POINTER, ("Git LFS", "git lfs pull")),
    "web page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", ("page",)),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', ("page",)),
    "message of a server": (b'{"message": "Not Found", "status": "404"}', ("Not Found",)),
    "empty": (b"", ("empty",)),
    "TorchScript": (
        zipped(a__data_dot_pkl="", a__constants_dot_pkl=""),
        ("TorchScript", "torch.jit.load"),
    ),
    "torch.export": (zipped(serialized_exported_program_dot_json="{}", version="5"), ("torch.export",)),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x052.4.0" + bytes(100), ("ONNX",)),
    "zip of a checkpoint": (zipped(teachers__a_dot_pth="x"), ("zip", "teachers/a.pth")),
    "tar of a checkpoint": (tarred(), ("tar", "teachers/a.pth")),
    "arrays of NumPy": (arrays(), ("NumPy",)),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(20), ("gunzip",)),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(20), ("HDF5",)),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(20), ("PNG",)),
}


@pytest.mark.parametrize("name", ["resnet8.pth", "resnet8.safetensors"])
@pytest.mark.parametrize("case", KINDS)
def test_what_is_no_checkpoint(case, name, tmp_path):
    pytest.importorskip("safetensors")
    content, mentioned = KINDS[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError) as refusal:
        load_network(tmp_path / name, DIGITS)
    text = str(refusal.value)
    assert len(text.splitlines()) <= 2
    for words in (str(tmp_path / name), *mentioned):
        assert words in text


def test_paths_that_are_no_file(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path, tmp_path / "none.pth", tmp_path / "loop", tmp_path / ("x" * 300), pathlib.Path("/dev/null")):
        with pytest.raises(RequestError):
            load_network(path, DIGITS)


def test_the_advice_on_torchscript_works(tmp_path):
    traced = torch.jit.trace(create_model("resnet8", 10, 8).eval(), torch.ones(1, 3, 8, 8))
    torch.jit.save(traced, tmp_path / "resnet8.pt")
    with pytest.raises(RequestError) as refusal:
        load_network(tmp_path / "resnet8.pt", DIGITS)
    exec(str(refusal.value).splitlines()[-1].split('"')[1])
    assert load_network(tmp_path / "resnet8.weights.pth", DIGITS, arch="resnet8").arch == "resnet8"


def test_safetensors_under_another_name(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(under("model.", A), tmp_path / "resnet8.bin")
    loaded = load_network(tmp_path / "resnet8.bin", DIGITS)
    assert "safetensors" in loaded.note
    assert "model." in loaded.note


NO_THREE_NUMBERS = ("0.5", 0.5, [0.5], [0.5] * 4, ["a", "b", "c"], [float("nan")] * 3, None, {}, [10**400] * 3)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_normalisation_must_be_three_numbers(name, tmp_path):
    save_network(tmp_path / "ours.pth")
    content = torch.load(tmp_path / "ours.pth", weights_only=True)
    for wrong in NO_THREE_NUMBERS:
        with pytest.raises(RequestError, match=name):
            load_network(saved(content | {name: wrong}, tmp_path), DIGITS)
    assert load_network(saved(content | {name: torch.tensor([0.5] * 3)}, tmp_path), DIGITS).arch == "resnet8"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("res32x4", "resnet32x4"), ("res56", "resnet56"), ("wrn40_2", "wrn_40_2"), ("WRN-16-2", "wrn_16_2"),
     ("vgg13_bn", "vgg13"), ("mv2", "MobileNetV2"), ("shuv1", "ShuffleV1"), ("ShuffleNetV2", "ShuffleV2"),
     ("res50", "ResNet50")],
)  # fmt: skip
def test_names_of_other_suites(theirs, ours):
    assert MODELS.canonical(theirs) == ours


# --- the scripts -----------------------------------------------------------------------------------

CPU = ["--device", "cpu"]


def test_evaluate_says_what_it_did(tmp_path, capsys):
    path = saved({"state_dict": A, "state_dict_ema": B}, tmp_path)
    command = ["--path", str(path), "--dataset", "digits", *CPU]
    for extra in ([], ["--ema"], ["--weights_key", "state_dict"]):
        assert evaluate.main([*command, *extra]) == 0
        first, last = capsys.readouterr().out.splitlines()
        assert "state_dict" in first
        assert last.startswith("Acc@1 ")
    assert evaluate.main([*command, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["model"] == "resnet8"
    assert "state_dict" in said.err
    assert evaluate.main(["--path", str(saved(A, tmp_path, "file.pth")), "--dataset", "digits", *CPU]) == 2
    text = capsys.readouterr().err
    assert "--model " in text
    assert "resnet8" in text
    assert "--model_t" not in text


def test_evaluate_says_that_there_is_one_head(tmp_path, capsys):
    assert evaluate.main(["--path", str(saved(A, tmp_path)), "--dataset", "digits", *CPU, "--answers"]) == 0
    assert "--answers" in capsys.readouterr().err


@pytest.mark.runs
def test_a_run_folder_stands_for_its_last_weights(tmp_path, capsys):
    assert train_alone(tmp_path, "--epochs", "1") == 0
    run = folder_of(tmp_path)
    capsys.readouterr()
    assert evaluate.main(["--path", str(run), *CPU, "--json"]) == 0  # the file names its data set
    assert json.loads(capsys.readouterr().out)["top1"] == read_json(run / "result.json")["last"]["top1"]
    command = ["--distill", "kd", "--model_s", "resnet8", *SMALL, "--epochs", "1", "--output", str(tmp_path / "kd")]
    assert train_student.main([*command, "--path_t", str(run)]) == 0
    (teacher,) = read_json(folder_of(tmp_path / "kd") / "config.json")["teachers"]
    assert teacher["path"] == str(run / "resnet8_last.pth")
    for folder, mentioned in ((run.parent, run.name), (tmp_path / "kd" / "none", "missing")):
        assert evaluate.main(["--path", str(folder), *CPU]) == 2
        assert mentioned in capsys.readouterr().err


SICK = {
    "weights": lambda weights: weights | {"layer1.0.bn1.weight": torch.full((16,), float("nan"))},
    "predictions": lambda weights: weights | {"fc.weight": torch.full_like(weights["fc.weight"], 3e38)},
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", SICK)
def test_networks_that_are_not_well(case, precision, tmp_path, capsys):
    """Refused by the name of the file, before a run begins."""
    path = saved({"model": SICK[case](A)}, tmp_path)
    extra = ["--precision", precision]
    assert evaluate.main(["--path", str(path), "--dataset", "digits", *CPU, *extra, "--json"]) == 2
    assert str(path) in capsys.readouterr().err
    command = [
        "--distill",
        "kd",
        "--model_s",
        "resnet8",
        *SMALL,
        "--output",
        str(tmp_path / "out"),
        "--path_t",
        str(path),
    ]
    assert train_student.main([*command, *extra]) == 2
    assert str(path) in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("config.json"))
