"""The surest mistakes against a naive loop, and their pictures."""

import csv

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from analysis.evaluated_images import EvaluatedImages
from analysis.gallery import MOST, Mistake, report_mistakes, small_picture, surest_mistakes

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(256, size=(40, 8, 8, 3)).astype(np.uint8)
TESTED = EvaluatedImages(IMAGES, np.arange(40) % 4, ("cat", "=dog", "x", "y"), 4)


def test_they_are_those_of_a_loop():
    logits, labels = RNG.normal(size=(60, 4)).astype(np.float32), RNG.integers(4, size=60)
    found = []
    for image, (row, label) in enumerate(zip(logits, labels, strict=True)):
        shares = softmax(row.astype(np.float64))
        if row.argmax() != label:
            found.append((shares.max(), image, label, row.argmax(), shares[label]))
    found.sort(key=lambda entry: (-entry[0], entry[1]))
    mistakes = surest_mistakes(logits, labels, 10)
    assert [(m.image, m.true, m.predicted) for m in mistakes] == [entry[1:4] for entry in found[:10]]
    assert [m.probability for m in mistakes] == pytest.approx([entry[0] for entry in found[:10]])
    assert [m.of_true for m in mistakes] == pytest.approx([entry[4] for entry in found[:10]])


def test_of_equal_ones_the_first_images_are_taken():
    logits = np.tile([[5.0, 0.0]], (50, 1))
    assert [m.image for m in surest_mistakes(logits, np.ones(50, dtype=int))] == list(range(MOST))
    assert surest_mistakes(logits, np.zeros(50, dtype=int)) == []


def test_pictures_and_a_table_are_written(tmp_path):
    report_mistakes(tmp_path, [Mistake(7, 3, 1, 0.75, 0.125), Mistake(2, 2, 0, 0.5, 0.25)], TESTED)
    rows = list(csv.DictReader((tmp_path / "mistakes.csv").open()))
    assert [(row["image"], row["true"], row["predicted"], row["probability"]) for row in rows] == [
        ("7", "3", "1", "0.75"),
        ("2", "2", "0", "0.5"),
    ]
    for row, image in zip(rows, (7, 2), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / row["picture"])), IMAGES[image])


def test_a_network_without_mistakes_has_an_empty_table_and_no_old_pictures(tmp_path):
    report_mistakes(tmp_path, [Mistake(7, 3, 1, 0.75, 0.125)], TESTED)
    own = tmp_path / "mistakes/notes.txt"
    own.write_text("mine")
    report_mistakes(tmp_path, [], TESTED)
    assert list((tmp_path / "mistakes").iterdir()) == [own]
    assert (tmp_path / "mistakes.csv").read_text().startswith("rank,image,true,predicted,")
    assert (tmp_path / "mistakes.csv").read_text().count("\n") == 1


def test_a_photograph_takes_few_bytes():
    noise = Image.fromarray(RNG.integers(256, size=(224, 224, 3)).astype(np.uint8))
    content, suffix = small_picture(noise)
    assert suffix == ".jpg"
    assert len(content) < 8000
