"""The teacher's classifier inside a method: saved, not trained; and what ends a projector that shall match its map."""

import pytest
import torch
from torch import nn

from distiller_zoo.classifier import TeacherClassifier, rectifier_of
from tests import naive
from tests.distiller_zoo.cases import CNN, MLP, Head
from tests.numerics import arrays, assert_near, normal

SIZES = CNN.embedding, CNN.num_classes


@pytest.mark.parametrize("bias", [True, False])
def test_it_says_what_the_teacher_would(bias):
    classifier, head, e = TeacherClassifier(*SIZES).double(), Head(6, bias=bias), normal(3, 6)
    classifier.copy_from(head)
    assert_near(classifier(e), naive.linear(head.last_linear, *arrays(e)))


def test_it_is_saved_and_not_trained():
    classifier, head, other = (
        TeacherClassifier(*SIZES).double(),
        Head(6),
        TeacherClassifier(*SIZES).double(),
    )
    assert not any(value.any() for value in classifier.state_dict().values())
    classifier.copy_from(head)
    other.load_state_dict(classifier.state_dict())
    assert torch.equal(other.weight, head.last_linear.weight)
    assert torch.equal(other.bias, head.last_linear.bias)
    assert list(classifier.parameters()) == []
    assert TeacherClassifier(6, 5, saved=False).state_dict() == {}


def test_an_mlps_embedding_may_be_negative():
    """CNNs end in a ReLU, MLPs in a layer norm: what shall match them ends alike."""
    assert isinstance(rectifier_of(CNN), nn.ReLU)
    assert isinstance(rectifier_of(MLP), nn.Identity)
