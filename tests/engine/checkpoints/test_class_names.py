"""A teacher's classes beside those of the data set."""

from dataclasses import replace

import pytest
import torch

from common.errors import RequestError
from dataset import DATASETS
from engine.checkpoints.class_names import compare_classes, recorded_classes
from engine.checkpoints.teachers import load_teachers
from tests.helpers import save_network

DIGITS, CIFAR10, STL10 = (DATASETS[name] for name in ("digits", "cifar10", "stl10"))


def test_the_same_or_unknown_classes_are_no_matter():
    assert compare_classes(DIGITS.classes, DIGITS, "file") == ""
    assert compare_classes((), DIGITS, "file") == ""
    assert compare_classes(DIGITS.classes, replace(DIGITS, classes=()), "file") == ""


def test_another_order_is_refused():
    with pytest.raises(RequestError, match=r"file.*digits"):
        compare_classes(tuple(reversed(DIGITS.classes)), DIGITS, "file")


def test_other_classes_are_named():
    warning = compare_classes(CIFAR10.classes, STL10, "file")
    assert all(word in warning for word in ("file", "automobile", "stl10", "car"))


def test_classes_of_a_file(tmp_path):
    save_network(tmp_path / "own.pth")
    content = torch.load(tmp_path / "own.pth", weights_only=True)
    assert recorded_classes(content) == DIGITS.classes
    older = {key: value for key, value in content.items() if key != "classes"}
    assert recorded_classes(older) == DIGITS.classes  # by the data set's name
    assert recorded_classes(older | {"dataset": "folder:gone@64"}) == ()
    assert recorded_classes(content["model"]) == ()


def test_a_teacher_of_other_classes_is_named_and_of_another_order_refused(tmp_path, capsys):
    save_network(tmp_path / "teacher.pth")
    others = replace(DIGITS, classes=tuple("abcdefghij"))
    load_teachers([(tmp_path / "teacher.pth", None)], others)
    assert "teacher.pth" in capsys.readouterr().out
    with pytest.raises(RequestError, match=r"teacher\.pth"):
        load_teachers([(tmp_path / "teacher.pth", None)], replace(DIGITS, classes=tuple("1023456789")))
