"""export.py and predict.py as a user calls them."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

import evaluate
import export
import predict
from dataset import load_arrays
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
