"""Fixtures of data sets in folders."""

import shutil

import numpy as np
import pytest

from tests.dataset.photographs import CLASSES, photograph


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """24 + 9 pictures of three classes, of many shapes, in three formats, and files that are none."""
    root = tmp_path_factory.mktemp("pictures")
    colours = {"cats": (190, 0, 0), "dogs": (0, 190, 0), "eels": (0, 0, 190)}
    rng = np.random.default_rng(0)
    for part_name, count in (("train", 8), ("val", 3)):
        for label, name in enumerate(CLASSES):
            for number in range(count):
                ending = ("png", "JPEG", "jpg")[number % 3]
                place = root / "pets" / part_name / name / f"{number}.{ending}"
                photograph(place, 100 * label + number, rng.integers(20, 60, 2), colours[name])
    (root / "pets/train/cats/notes.txt").write_text("no picture")
    (root / "pets/readme.md").write_text("no folder")
    return root


@pytest.fixture
def pictures(original, tmp_path):
    shutil.copytree(original, tmp_path / "data")
    return tmp_path / "data"
