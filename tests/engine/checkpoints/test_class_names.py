"""The names of the classes in a weights file."""

import torch

from engine.checkpoints.class_names import recorded_classes
from tests.helpers import DIGITS, save_network


def test_classes_of_a_file(tmp_path):
    save_network(tmp_path / "own.pth")
    content = torch.load(tmp_path / "own.pth", weights_only=True)
    assert recorded_classes(content) == DIGITS.classes
    older = {key: value for key, value in content.items() if key != "classes"}
    assert recorded_classes(older) == DIGITS.classes  # by the data set's name
    assert recorded_classes(older | {"dataset": "folder:gone@64"}) == ()
    assert recorded_classes(content["model"]) == ()
