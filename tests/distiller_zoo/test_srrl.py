"""SRRL: both losses through the teacher's classifier by plain loops, gradients, its connector and weights."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from distiller_zoo import Weights
from distiller_zoo.srrl import regression_losses
from tests import naive
from tests.distiller_zoo.cases import CNN, MLP, WIDE, Head, assert_published, batch_of, features, make, maps_pair
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_inputs, assert_method_stays_finite, without
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype

E_S, E_T = maps_pair((2, 4), (2, 4))


def both(s, t):
    return sum(regression_losses(s, t, lambda e: e * 2))


def test_known_values():
    feature, regression = regression_losses(torch.ones(2, 4), torch.zeros(2, 4), lambda e: 3 * e[:, :2])
    assert (feature, regression) == (1, 9)


def test_gradient_and_odd_embeddings():
    assert_gradient(lambda s: both(s, E_T), E_S)
    assert_finite_for_odd_inputs(both, E_S, E_T)


@every_dtype
@pytest.mark.parametrize("bias", [True, False])
def test_through_the_teachers_classifier(bias, dtype):
    method = make("srrl", dtype=dtype)
    student, teacher = features(CNN, 1, dtype=dtype), features(WIDE, 2, dtype=dtype)
    head = Head(7, bias=bias)
    method.inspect_networks(None, (head,))
    assert naive.described(method.connector) == [(6, 7), "BatchNorm1d", "ReLU"]
    e_s, e_t, w = arrays(student.embedding, teacher.embedding, head.last_linear.weight)
    h = naive.run_layers(method.connector, e_s)
    found = method.losses(student, (teacher,), batch_of())
    assert list(found) == ["srrl_feature", "srrl_regression"]
    assert_near(found["srrl_feature"], ((h - e_t) ** 2).mean())
    assert_near(found["srrl_regression"], (((h - e_t) @ w.T) ** 2).mean())  # the bias falls out


def test_gradient_through_the_connector():
    """In evaluation mode, so that batch norm is a fixed scale."""
    method, student, teacher = make("srrl").eval(), features(CNN, 1), features(WIDE, 2)
    method.inspect_networks(None, (Head(7),))

    def loss(e):
        return sum(method.losses(replace(student, embedding=e), (teacher,), batch_of()).values())

    assert_gradient(loss, student.embedding)


def test_an_mlps_embedding_may_be_negative():
    assert isinstance(make("srrl", CNN, MLP).connector[-1], nn.Identity)


def test_the_classifier_is_no_parameter():
    assert not [key for key, _ in make("srrl").named_parameters() if not key.startswith("connector")]


def test_odd_features():
    kinds = without("a batch of one")  # batch norm needs two
    assert_method_stays_finite(lambda: make("srrl"), CNN, WIDE, kinds)


def test_published():
    assert_published("srrl", Weights(1, 1, 1))
