"""Means over an epoch, of values over all images and over some of them."""

import pytest
import torch

from engine.training.running_means import RunningMeans


def scalars(**values):
    return {name: torch.tensor(float(value)) for name, value in values.items()}


def test_means_are_over_images_and_not_over_batches():
    means = RunningMeans()
    means.add(scalars(loss=1, ce=4), 3)
    means.add(scalars(loss=3, ce=0), 1)
    assert means.means() == {"loss": 1.5, "ce": 3.0}
    assert means.images == 4
    assert means.counts is None


def test_a_value_over_some_images_counts_by_these():
    means = RunningMeans()
    for loss, ce, labelled in ((1, 2, 1), (3, 5, 2), (2, 0, 0)):
        means.add(scalars(loss=loss, ce=ce), 4, scalars(ce=labelled))
    assert means.means() == pytest.approx({"loss": 2.0, "ce": (2 + 5 * 2) / 3})
    assert means.images == 12


def test_a_value_over_no_image_is_zero():
    means = RunningMeans()
    means.add(scalars(loss=1, ce=0), 4, scalars(ce=0))
    assert means.means() == {"loss": 1.0, "ce": 0.0}


def test_empty():
    assert RunningMeans().means() == {}


def test_counts_are_part_of_a_checkpoint():
    means = RunningMeans()
    means.add(scalars(loss=1, ce=2), 4, scalars(ce=1))
    again = RunningMeans(**vars(means))
    again.add(scalars(loss=1, ce=5), 4, scalars(ce=2))
    assert again.means()["ce"] == pytest.approx(4.0)
