"""From a folder of photographs to a student in a file, by the script that a user starts, without a network."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.checkpoints.exports.prediction import predict
from engine.checkpoints.exports.predictor import open_predictor
from scripts import choose_student
from tests.helpers import read_json, save_network
from tests.scripts.test_shell_scripts import run

pytestmark = pytest.mark.slow
COLOURS = {"amber": (200, 150, 30), "jade": (20, 150, 110), "plum": (140, 40, 130)}
BROKEN, TURNED = "plum/5.jpg", "jade/3.jpg"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """60 JPEGs of three classes, of many sizes, one broken, one turned by EXIF; six new ones; weights to start from."""
    place, rng = tmp_path_factory.mktemp("place"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for number in range(22):
            width, height = rng.integers(60, 300, 2)
            noise = rng.integers(-60, 60, (height, width, 3)) + np.array(colour)
            path = place / (f"stones/{name}/{number}.jpg" if number < 20 else f"new/{name}_{number}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
            turned = image.getexif()
            turned[0x0112] = 6
            image.save(path, **({"exif": turned} if str(path).endswith(TURNED) else {}))
    broken = place / "stones" / BROKEN
    broken.write_bytes(broken.read_bytes()[:700])
    for arch in ("resnet20", "resnet8"):  # trained for the ten digits
        save_network(place / f"{arch}.pth", arch)
    return place


def distil(place, **more):
    choices = {"SIZE": 32, "TEACHER": "resnet20", "INIT": "resnet20.pth", "STUDENTS": "resnet8"}
    choices |= {
        "INIT_S": "resnet8.pth",
        "METHODS": "none kd dkd",
        "EPOCHS": 8,
        "BATCH_SIZE": 16,
        "OUTPUT": place / "out",
    }
    return run("distil_folder.sh", "stones", "new", cwd=place, **choices | more)


def test_photographs_become_a_table_a_report_a_file_and_predictions(place):
    refused = distil(place)
    assert refused.returncode == 2  # before anything is trained
    assert "5.jpg" in refused.stderr
    assert "--skip_bad_images" in refused.stderr
    done = distil(place, ARGS="--skip_bad_images")
    assert done.returncode == 0, done.stderr
    out = place / "out"
    assert "accuracy and cost" in done.stdout
    assert "Smallest within 1 point" in done.stdout
    page = (out / "report.html").read_text()
    assert all(name in page for name in COLOURS)
    assert "http://" not in page.replace("http://www.w3.org", "")
    card = (out / "student.md").read_text()
    assert "resnet8" in card
    with (out / "predictions.csv").open() as file:
        named = {row["image"]: row["class"] for row in csv.DictReader(file)}
    assert len(named) == 6
    assert sum(answer in image for image, answer in named.items()) >= 5
    trained = len(list(out.glob("*/*/result.json")))
    assert trained == 4
    again = distil(place, ARGS="--skip_bad_images")  # everything is there
    assert again.returncode == 0
    assert again.stdout.count("already finished") == trained


def test_the_file_answers_as_the_run_does_image_by_image(place, capsys):
    """By the images as `evaluate.py` sees them."""
    out = place / "out"
    assert choose_student.main([str(out)]) == 0
    student = Path(capsys.readouterr().out.strip())
    images = sorted((place / "stones").rglob("*.jpg"))
    images.remove(place / "stones" / BROKEN)
    answers = []
    for path in (student, out / "student.onnx"):
        predictions, unreadable = predict(open_predictor(path), images, 1)
        assert not unreadable
        answers.append([one.classes[0][0] for one in predictions])
    assert answers[0] == answers[1]
    assert set(answers[0]) == set(COLOURS)
    assert read_json(student / "config.json")["classes"] == list(COLOURS)
