"""Names of classes: as many as there are classes, each once; folders give theirs."""

import numpy as np
import pytest
from PIL import Image

from dataset import DATASETS


@pytest.mark.parametrize("name", list(DATASETS))
def test_names_are_as_many_as_classes(name):
    entry = DATASETS[name]
    assert len(set(entry.classes)) == len(entry.classes)
    assert len(entry.classes) in (0, entry.num_classes)


@pytest.mark.parametrize(
    ("name", "label", "word"), [("cifar100", 0, "apple"), ("cifar100", 99, "worm"), ("cifar10", 3, "cat")]
)
def test_some_names_in_the_order_of_the_labels(name, label, word):
    assert DATASETS[name].classes[label] == word


def test_folders_are_classes(tmp_path):
    for part in ("train", "val"):
        for name in ("dog", "cat"):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "pets" / part / name / "a.png")
    with DATASETS.temporarily():
        assert DATASETS.find("folder:pets@8", tmp_path).classes == ("cat", "dog")
