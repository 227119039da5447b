"""Texts for classes in pictures, and images as networks see them."""

import numpy as np
from PIL import Image

from analysis.evaluated_images import EvaluatedImages
from dataset import DATASETS, load_arrays
from dataset.image_files import middle
from tests.helpers import DIGITS


def test_images_in_arrays(tmp_path):
    data = load_arrays(DIGITS.name, tmp_path)
    tested = EvaluatedImages.of(data, DIGITS)
    np.testing.assert_array_equal(np.asarray(tested.picture(3)), data.test_images[3])
    assert tested.file(3) == ""
    assert tested.texts == list("0123456789")


def test_photographs_are_squares_from_their_middle(tmp_path):
    for part in ("train", "val"):
        for name, colour in (("cat", "red"), ("a\nb" + "c" * 40, "blue")):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            Image.new("RGB", (60, 40), colour).save(tmp_path / "pets" / part / name / "1.png")
    entry = DATASETS.find("folder:pets@16", tmp_path)
    tested = EvaluatedImages.of(load_arrays(entry.name, tmp_path), entry)
    assert tested.texts[1] == "cat"
    assert tested.texts[0].startswith("a\\nbccc")
    assert tested.texts[0].endswith("… (0)")
    assert tested.picture(1).size == (16, 16)
    photograph = Image.open(tmp_path / "pets" / tested.file(1)).convert("RGB")
    assert tested.picture(1).tobytes() == middle(photograph, 16).tobytes()


def test_without_names_classes_are_numbers():
    assert EvaluatedImages(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, int), (), 3).texts == ["0", "1", "2"]
