import pytest

from dataset import DATASETS, load_arrays
from engine.checkpoints.exports.agreement import accuracy
from engine.checkpoints.exports.formats import write_export
from engine.checkpoints.exports.predictor import open_predictor
from engine.checkpoints.exports.quantisation import CALIBRATION_IMAGES, calibration_batches, quantise
from engine.checkpoints.exports.source import load_deployed
from engine.checkpoints.run_weights import weights_file
from tests.helpers import folder_of, train_alone

pytest.importorskip("onnxruntime")
DIGITS = DATASETS["digits"]


@pytest.mark.runs
def test_eight_bits_keep_the_accuracy(tmp_path):
    assert train_alone(tmp_path, "--epochs", "3", model="resnet20") == 0
    check(folder_of(tmp_path), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mixer_pico", "ShuffleV2"])
def test_eight_bits_keep_the_accuracy_of_other_families(model, tmp_path):
    words = ["--recipe", "light", "--epochs", "10", "--batch_size", "32"]
    assert train_alone(tmp_path, *words, model=model) == 0
    check(folder_of(tmp_path), tmp_path)


def check(run, folder):
    """The eight-bit file of a run is at most 35 % of the float one, and within 2 points."""
    network, description = load_deployed(weights_file(run, "--path"))
    data = load_arrays("digits", folder)
    write_export("onnx", folder / "net.onnx", network, description)
    quantise(folder / "net.onnx", folder / "net_int8.onnx", data, description)
    before, after = (folder / f"{name}.onnx" for name in ("net", "net_int8"))
    assert after.stat().st_size <= 0.35 * before.stat().st_size
    figures = [accuracy(open_predictor(path), data, DIGITS) for path in (before, after)]
    assert figures[0] > 60  # it has learned
    assert abs(figures[1] - figures[0]) <= 2
    assert open_predictor(after).description == open_predictor(before).description


def test_calibration_sees_training_images_of_all_the_set(tmp_path):
    _, description = load_deployed(save(tmp_path))
    data = load_arrays("digits", tmp_path)
    seen = [batch["images"] for batch in calibration_batches(data, description)]
    assert sum(map(len, seen)) == CALIBRATION_IMAGES
    assert seen[0].dtype == "uint8"
    assert (seen[0][0].transpose(1, 2, 0) == data.train_images[0]).all()
    assert (seen[-1][-1].transpose(1, 2, 0) == data.train_images[-1]).all()


def save(folder):
    from tests.helpers import save_network

    save_network(folder / "net.pth")
    return folder / "net.pth"
