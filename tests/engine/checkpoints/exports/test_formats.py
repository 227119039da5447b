"""Every family and every method with heads, in every format: the file computes what PyTorch computes."""

import pytest
import torch

from common.errors import RequestError
from dataset import DATASETS
from distiller_zoo import Pair, create_method
from engine.checkpoints.exports.agreement import largest_difference
from engine.checkpoints.exports.deployed import DeployedNetwork
from engine.checkpoints.exports.formats import write_export
from engine.checkpoints.exports.names import FORMATS
from engine.checkpoints.exports.predictor import as_input, open_predictor
from engine.checkpoints.exports.source import load_deployed
from engine.checkpoints.inference_network import InferenceNetwork
from engine.checkpoints.weights import TrainedMethod, WeightsHeader, save_weights
from models import create_model
from tests.helpers import disturb, save_network

DIGITS, CIFAR10 = DATASETS["digits"], DATASETS["cifar10"]
FAMILIES = ["mixer_pico", "vit_pico", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2", "resmlp_pico"]
FAMILIES += ["deit_pico_distilled", "timm:resnet18"]
LARGER = ["ResNet50", "ResNet50_photo", "cyclemlp_nano"]  # for images of 32 px
# Students that predict with what their method gave them: method, student, teacher, options.
HEADS = [
    ("std", "mixer_pico", "resnet8", {"std_predict": "confidence"}),
    ("std", "resmlp_pico", "resnet8", {}),
    ("deit", "deit_pico_distilled", "resnet8", {}),
    ("simkd", "resnet8", "resnet14", {}),
]
TOLERANCE = 1e-5


def pixels(count: int, size: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def save_student(path, method, student, teacher, options, entry=DIGITS):
    """Write a student with the heads of a method, whose parameters all count."""
    torch.manual_seed(0)
    networks = [create_model(name, entry.num_classes, entry.image_size) for name in (student, teacher)]
    pair = Pair(networks[0].feature_shapes(), (networks[1].feature_shapes(),), entry.train_size)
    built = create_method(method, pair, options)
    built.inspect_networks(networks[0], (networks[1],))
    for module in (networks[0], built):
        disturb(module)
    header = WeightsHeader(student, entry, 1, {"top1": 0.0}, TrainedMethod(built, pair, options))
    save_weights(path, networks[0], header)
    return InferenceNetwork(networks[0].eval(), built.eval())


def check(source, folder, names, kind="uint8"):
    network, description = load_deployed(source, kind)
    for name in names:
        path = folder / f"out{FORMATS[name].suffix}"
        write_export(name, path, network, description)
        predictor = open_predictor(path)
        # Networks with random weights may give logits in the hundreds, which float32 has to fewer decimals.
        batches = [pixels(count, network.image_size) for count in (1, 2, 7)]
        scale = max(1.0, float(network(as_input(batches[-1], kind)).abs().max()))
        assert largest_difference(network, predictor, batches) <= TOLERANCE * scale
        assert predictor.description.classes == DATASETS[description.dataset].classes
        if name != "safetensors":  # which is a weights file itself, with a digest of its own
            assert predictor.description.as_metadata() == description.as_metadata()


@pytest.mark.runs
@pytest.mark.parametrize("arch", ["resnet8", *(pytest.param(arch, marks=pytest.mark.slow) for arch in FAMILIES)])
def test_a_network_in_all_formats(arch, tmp_path):
    save_network(tmp_path / "net.pth", arch)
    check(tmp_path / "net.pth", tmp_path, FORMATS)


@pytest.mark.runs
@pytest.mark.parametrize("case", [HEADS[0], pytest.param(HEADS[-1], marks=pytest.mark.slow)], ids=["std", "simkd"])
def test_a_student_with_heads_in_all_formats(case, tmp_path):
    expected = save_student(tmp_path / "net.pth", *case)
    network, _ = load_deployed(tmp_path / "net.pth")
    images = as_input(pixels(3), "float")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (DIGITS.mean, DIGITS.std))
    torch.testing.assert_close(
        network(as_input(pixels(3), "uint8")), expected((images - mean) / std), rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(expected((images - mean) / std), expected.network((images - mean) / std))
    check(tmp_path / "net.pth", tmp_path, FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize("case", HEADS, ids=lambda case: f"{case[0]}-{case[1]}")
def test_every_method_with_heads_in_all_formats(case, tmp_path):
    save_student(tmp_path / "net.pth", *case)
    check(tmp_path / "net.pth", tmp_path, FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize("arch", LARGER)
def test_families_of_larger_images(arch, tmp_path):
    save_network(tmp_path / "net.pth", arch, CIFAR10)
    check(tmp_path / "net.pth", tmp_path, FORMATS)


@pytest.mark.slow
def test_std_on_a_network_of_larger_images(tmp_path):
    options = {"std_modules": "last+intermediate"}
    save_student(tmp_path / "net.pth", "std", "cyclemlp_nano", "resnet8", options, CIFAR10)
    check(tmp_path / "net.pth", tmp_path, FORMATS)


@pytest.mark.slow
def test_a_network_that_resizes_its_images(tmp_path):
    save_network(tmp_path / "net.pth", "timm:vit_tiny_patch16_224@224")
    check(tmp_path / "net.pth", tmp_path, FORMATS)


@pytest.mark.runs
def test_float_pixels(tmp_path):
    save_network(tmp_path / "net.pth")
    check(tmp_path / "net.pth", tmp_path, ["onnx", "pt2"], kind="float")


def test_normalisation_is_inside(tmp_path):
    network = save_network(tmp_path / "net.pth")
    deployed = DeployedNetwork(InferenceNetwork(network), DIGITS)
    images = as_input(pixels(2), "float")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (DIGITS.mean, DIGITS.std))
    torch.testing.assert_close(deployed(as_input(pixels(2), "uint8")), network((images - mean) / std))


@pytest.mark.parametrize("name", ["missing.onnx", "damaged.onnx", "damaged.pt2", "empty.onnx", "missing.pt2"])
def test_files_that_are_no_networks_are_refused_by_name(name, tmp_path):
    path = tmp_path / name
    if name.startswith("damaged"):
        path.write_bytes(b"no network" * 50)
    elif name.startswith("empty"):
        path.touch()
    with pytest.raises(RequestError, match=name):
        open_predictor(path)


def test_an_onnx_file_of_another_tool_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n"])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n"])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "foreign.onnx")
    with pytest.raises(RequestError, match=r"foreign\.onnx"):
        open_predictor(tmp_path / "foreign.onnx")
