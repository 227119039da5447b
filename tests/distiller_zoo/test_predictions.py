"""What losses on predictions share: standardised logits, other classes, divergences, warm-up, classifiers."""

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import RequestError
from distiller_zoo.kd import kd_loss
from distiller_zoo.predictions import (
    class_against_rest,
    classifier_of,
    kl_of_each,
    other_classes,
    standardised,
    warm_up,
    with_standardised_logits,
)
from models import create_model
from tests import naive
from tests.distiller_zoo.cases import CNN, features, labels_for, logits_pair
from tests.numerics import arrays, assert_near, every_dtype, normal


@every_dtype
def test_standardised(dtype):
    z = 5 + 3 * normal(2, 4, 7, dtype=dtype)
    assert_near(standardised(z), naive.z_scored(*arrays(z)))


def test_equal_logits_are_centred_and_not_scaled():
    z = torch.full((2, 5), 3.0, requires_grad=True)
    found = standardised(z)
    assert found.abs().max() == 0
    found[:, 0].sum().backward()
    assert z.grad.abs().max() < 2


def test_logits_of_heads_stay_as_they_are():
    plain = features(CNN)
    changed = with_standardised_logits(plain)
    assert torch.equal(changed.logits, standardised(plain.logits))
    assert changed.heads is plain.heads
    assert changed.embedding is plain.embedding


def test_other_classes_in_order():
    values = torch.arange(12).view(3, 4)
    assert other_classes(values, torch.tensor([0, 2, 3])).tolist() == [[1, 2, 3], [4, 5, 7], [8, 9, 10]]


@every_dtype
def test_class_against_rest(dtype):
    z, labels = normal(6, 5, dtype=dtype), labels_for((6, 5))
    expected = [naive.class_and_rest(row, y, 1.0) for row, y in zip(*arrays(z), labels.tolist(), strict=True)]
    assert_near(class_against_rest(z, labels).exp(), expected)


def test_the_divergence_of_each_is_that_of_kd():
    s, t = logits_pair((5, 6))
    assert_near(kl_of_each(s.log_softmax(1), t.log_softmax(1)).mean(), kd_loss(s, t, 1.0).item())


def test_warm_up():
    assert [warm_up(epoch, 4) for epoch in (1, 2, 4, 5, 100)] == [0.25, 0.5, 1, 1, 1]
    assert [warm_up(1, 0), warm_up(1, 1)] == [1, 1]


def test_classifier_of():
    network = create_model("resnet8", 10, 8)
    assert classifier_of(network, 64, "sdd") is network.fc
    network.fc = nn.Linear(48, 10)
    with pytest.raises(RequestError, match="sdd") as refusal:
        classifier_of(network, 64, "sdd")
    assert all(word in str(refusal.value) for word in ("64", "48", "ResNet"))


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_standardised_logits_know_neither_shift_nor_scale(shift):
    z = normal(3, 6)
    np.testing.assert_allclose(standardised(4 * z + shift).numpy(), standardised(z).numpy(), rtol=1e-6, atol=1e-6)
