"""export.py and predict.py as a user calls them."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate
import export
import predict
from dataset import DATASETS, evaluation_batches, load_arrays
from engine.checkpoints.weights import WeightsHeader, save_weights
from tests.dataset.photographs import NAME, photograph
from tests.helpers import save_network

pytestmark = pytest.mark.runs


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Ten test images of the digits, one in a folder of its own, and one that is none."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "inner").mkdir()
    data = load_arrays("digits", folder)
    for number in range(10):
        place = folder / "inner" if number == 9 else folder
        Image.fromarray(np.asarray(data.test_images[number])).save(place / f"{number}.png")
    (folder / "broken.jpg").write_text("no image")
    return folder


@pytest.mark.parametrize("name", ["onnx", "pt2", "safetensors"])
def test_a_file_is_written_measured_and_predicts_alike(name, tmp_path, images, capsys):
    save_network(tmp_path / "net.pth")
    assert export.main(["--path", str(tmp_path / "net.pth"), "--format", name, "--card"]) == 0
    said = capsys.readouterr().out
    assert evaluate.main(["--path", str(tmp_path / "net.pth"), "--dataset", "digits", "--device", "cpu"]) == 0
    top1 = capsys.readouterr().out.split()[1]
    assert f"Acc@1 {top1}" in said
    assert top1 in (tmp_path / "net.md").read_text()
    found = []
    for path in (tmp_path / "net.pth", tmp_path / f"net.{name}"):
        assert predict.main(["--path", str(path), str(images), "--top", "3", "--format", "json"]) == 0
        out, err = capsys.readouterr()
        assert "broken.jpg" in err
        found.append(json.loads(out))
    assert len(found[0]) == 10
    assert found[0][-1]["image"].endswith("9.png")
    for one, other in zip(*found, strict=True):
        assert one["image"] == other["image"]
        for own, exported in zip(one["classes"], other["classes"], strict=True):
            assert own["name"] == exported["name"]
            assert own["probability"] == pytest.approx(exported["probability"], abs=1e-5)


SIDEWAYS = 6  # of EXIF: the camera was turned


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder data set of JPEGs of many shapes, half of whose test images lie on their side."""
    root = tmp_path_factory.mktemp("photographs")
    sizes = [(40, 24), (24, 40), (31, 20), (60, 17)]
    for label, name in enumerate(("cats", "dogs", "eels")):
        for part in ("train", "val"):
            for number, size in enumerate(sizes):
                path = root / "pets" / part / name / f"{number}.jpg"
                photograph(path, 10 * label + number, size, [150 * (label == channel) for channel in range(3)])
                with Image.open(path) as image:
                    turned = Image.Exif()
                    if number % 2:
                        turned[0x0112] = SIDEWAYS
                    # Its left half is bright, so that it matters which way up it is seen.
                    pixels = np.array(image)
                    pixels[:, : pixels.shape[1] // 2] //= 4
                    Image.fromarray(pixels).save(path, exif=turned, quality=95)
    return root


def save_for(entry, path):
    """Write a network whose predictions differ from image to image; returns its logits as evaluate.py computes them."""
    network = save_network(path, entry=entry)
    arrays = entry.load(path.parent)
    batches = evaluation_batches(arrays.test_images, arrays.test_labels, entry, 5, "cpu")
    with torch.no_grad():
        logits = torch.cat([network(images) for images, _ in batches])
        network.last_linear.bias -= logits.mean(dim=0)  # random networks predict one class for all images
    save_weights(path, network, WeightsHeader("resnet8", entry, 1, {"top1": 0.0}))
    return logits - logits.mean(dim=0)


def predicted(path, folder, capsys):
    """Names and probabilities of all classes of all images below a folder, by predict.py."""
    capsys.readouterr()
    assert predict.main(["--path", str(path), str(folder), "--top", "10", "--format", "json"]) == 0
    return [
        {one["name"]: one["probability"] for one in image["classes"]} for image in json.loads(capsys.readouterr().out)
    ]


@pytest.mark.parametrize("name", ["onnx", "pt2", "safetensors", "pth"])
def test_photographs_are_predicted_as_they_are_evaluated(name, photographs, capsys):
    entry = DATASETS.find(NAME, photographs)
    expected = save_for(entry, photographs / "net.pth").softmax(dim=1)
    assert len(set(expected.argmax(dim=1).tolist())) > 1
    path = photographs / f"net.{name}"
    if name != "pth":
        words = ["--path", str(photographs / "net.pth"), "--format", name, "--overwrite"]
        assert export.main([*words, "--data_folder", str(photographs)]) == 0
    found = predicted(path, photographs / "pets/val", capsys)
    for row, image in zip(expected, found, strict=True):
        assert [image[name] for name in ("cats", "dogs", "eels")] == pytest.approx(row.tolist(), abs=1e-5)


def test_eight_bits_predict_the_photographs_that_they_are_measured_on(photographs, capsys):
    entry = DATASETS.find(NAME, photographs)
    expected = save_for(entry, photographs / "net.pth").softmax(dim=1)
    words = ["--path", str(photographs / "net.pth"), "--int8", "--overwrite", "--data_folder", str(photographs)]
    assert export.main(words) == 0
    found = predicted(photographs / "net_int8.onnx", photographs / "pets/val", capsys)
    for row, image in zip(expected, found, strict=True):
        assert [image[name] for name in ("cats", "dogs", "eels")] == pytest.approx(row.tolist(), abs=0.1)


def test_images_of_a_named_data_set_are_predicted_as_they_are_evaluated(tmp_path, images, capsys):
    entry = DATASETS["digits"]
    expected = save_for(entry, tmp_path / "net.pth")[:10].softmax(dim=1)
    assert export.main(["--path", str(tmp_path / "net.pth")]) == 0
    found = predicted(tmp_path / "net.onnx", images, capsys)
    for row, image in zip(expected, found, strict=True):
        assert [image[str(digit)] for digit in range(10)] == pytest.approx(row.tolist(), abs=1e-5)


def test_predictions_as_csv_and_table(tmp_path, images, capsys):
    save_network(tmp_path / "net.pth")
    capsys.readouterr()
    assert (
        predict.main(["--path", str(tmp_path / "net.pth"), str(images / "0.png"), "--top", "20", "--format", "csv"])
        == 0
    )
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert sorted(row["class"] for row in rows) == list("0123456789")
    assert sum(float(row["probability"]) for row in rows) == pytest.approx(1, abs=1e-4)
    assert predict.main(["--path", str(tmp_path / "net.pth"), str(images / "0.png")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert rows[0]["class"] in line.split()


@pytest.mark.parametrize(
    ("argv", "mentions"),
    [
        (["--path", "net.pth", "--out", "net.pth"], "--overwrite"),
        (["--path", "missing.pth"], "missing.pth"),
        (["--path", "net.pth", "--format", "pt2", "--int8"], "--format onnx"),
        (["--path", "."], "folder"),
    ],
)
def test_wrong_exports_are_refused(argv, mentions, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_network(tmp_path / "net.pth")
    before = (tmp_path / "net.pth").read_bytes()
    assert export.main(argv) == 2
    assert mentions in capsys.readouterr().err
    assert (tmp_path / "net.pth").read_bytes() == before


@pytest.mark.parametrize(
    ("argv", "mentions"),
    [
        (["--path", "net.pth", "missing"], "missing"),
        (["--path", "net.pth", "empty"], "empty"),
        (["--path", "net.pth", "text.png"], "text.png"),
        (["--path", "missing.onnx", "text.png"], "missing.onnx"),
    ],
)
def test_wrong_predictions_are_refused(argv, mentions, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_network(tmp_path / "net.pth")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no image")
    assert predict.main(argv) == 2
    assert mentions in capsys.readouterr().err
