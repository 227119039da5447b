"""A teacher's classes beside those of the data set."""

from dataclasses import replace

import pytest
import torch

from dataset import DATASETS
from engine.checkpoints.class_fit import FITS, compare_classes
from engine.checkpoints.teachers import load_teachers
from engine.checkpoints.weights import load_network
from tests.helpers import DIGITS, save_network

CIFAR10, STL10 = (DATASETS[name] for name in ("cifar10", "stl10"))


@pytest.fixture
def loaded(tmp_path):
    """A network for the digits, from a file."""
    save_network(tmp_path / "file.pth")
    return load_network(tmp_path / "file.pth", DIGITS)


def test_the_same_or_unknown_classes_are_no_matter(loaded):
    assert compare_classes(loaded, DIGITS, "file") == FITS
    assert compare_classes(replace(loaded, classes=()), DIGITS, "file") == FITS
    assert compare_classes(loaded, replace(DIGITS, classes=()), "file") == FITS


def test_classes_in_another_order_are_a_misfit(loaded):
    fit = compare_classes(replace(loaded, classes=tuple(reversed(DIGITS.classes))), DIGITS, "file")
    assert all(word in fit.misfit for word in ("file", "digits"))
    assert not fit.warning


@pytest.mark.parametrize("classes", [0, 7, 100])
def test_another_number_of_classes_is_a_misfit(loaded, classes):
    fit = compare_classes(replace(loaded, num_classes=classes, dataset="cifar100"), DIGITS, "file")
    assert "file" in fit.misfit
    if classes:  # the data set may be the wrong one
        assert f"{classes} classes" in fit.misfit
        assert "--dataset cifar100" in fit.advice
    else:
        assert not fit.advice


def test_other_classes_of_one_number_are_named(loaded):
    fit = compare_classes(replace(loaded, classes=CIFAR10.classes), STL10, "file")
    assert not fit.misfit
    assert all(word in fit.warning for word in ("file", "automobile", "stl10", "car"))


@pytest.mark.parametrize("written_by", ["this version", "an earlier one, without names"])
def test_a_cifar10_teacher_does_not_pass_for_one_of_stl10(written_by, tmp_path):
    path = tmp_path / "teacher.pth"
    save_network(path, "resnet8", CIFAR10)
    if written_by != "this version":
        content = torch.load(path, weights_only=True)
        del content["classes"]
        torch.save(content, path)
    (teacher,) = load_teachers([(path, None)], STL10)
    assert "automobile" in teacher.fit.warning
    assert load_teachers([(path, None)], CIFAR10)[0].fit == FITS
