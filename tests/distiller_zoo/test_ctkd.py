"""CTKD: KD at a learned temperature, whose gradient is reversed more and more; its bounds and options."""

import itertools
import math

import numpy as np
import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.ctkd import adversary_strength, reversed_gradient
from distiller_zoo.kd import kd_loss
from models import Features
from tests import naive
from tests.distiller_zoo.cases import (
    assert_published,
    assert_refused,
    batch_of,
    logits_pair,
    losses_of_logits,
    make,
    shapes,
)
from tests.distiller_zoo.odd_inputs import ODD_LOGITS
from tests.numerics import arrays

FIRST_TEMPERATURE = 1 + 20 / (1 + math.exp(-1))  # θ starts at 1


def create(**options):
    return make("ctkd", shapes(), shapes(), torch.float32, **options)


def test_the_adversary_grows_along_a_cosine():
    expected = [0.0245, 0.0955, 0.2061, 0.3455, 0.5, 0.6545, 0.7939, 0.9045, 0.9755, 1, 1, 1]
    found = [adversary_strength(epoch, 10) for epoch in range(1, 13)]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert adversary_strength(1, 1) == 1


def test_reversed_gradient():
    x = torch.tensor([0.1, -7.3, 1e-30, 12345.678], requires_grad=True)
    found = reversed_gradient(x, 0.3)
    assert torch.equal(found, x)
    (found * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [-0.3, -0.6, -0.9, -1.2], rtol=1e-6)


def test_losses():
    s, t = logits_pair()
    found = losses_of_logits("ctkd", s, t)
    assert list(found) == ["ctkd"]
    assert found["ctkd"].item() == pytest.approx(naive.kd(*arrays(s, t), FIRST_TEMPERATURE), rel=1e-9)


@pytest.mark.parametrize("epoch", [1, 5, 10, 200])
def test_theta_climbs_where_the_student_descends(epoch):
    """Its gradient is that of the loss, by finite differences, times −λ; the student's is the plain one."""
    s, t = logits_pair()
    s.requires_grad_()
    method = create().double()
    method.losses(Features(s), (Features(t),), batch_of(epoch=epoch))["ctkd"].backward()

    def at(theta):
        return naive.kd(*arrays(s, t), 1 + 20 / (1 + math.exp(-theta)))

    slope = (at(1 + 1e-5) - at(1 - 1e-5)) / 2e-5
    np.testing.assert_allclose(method.theta.grad.item(), -adversary_strength(epoch, 10) * slope, rtol=1e-5)
    plain = s.detach().clone().requires_grad_()
    kd_loss(plain, t, method.temperature(1).item()).backward()
    torch.testing.assert_close(s.grad, plain.grad)


def test_the_temperature_stays_between_its_bounds():
    method = create()
    assert method.temperature(1).item() == pytest.approx(FIRST_TEMPERATURE)
    for theta, expected in ((-1e4, 1), (0, 11), (1e4, 21)):
        with torch.no_grad():
            method.theta.fill_(theta)
        assert method.temperature(3).item() == pytest.approx(expected)
    assert list(method.state_dict()) == ["theta"]


@pytest.mark.parametrize("theta", [-1e4, 1.0, 1e4])
def test_odd_logits(theta):
    method = create()
    with torch.no_grad():
        method.theta.fill_(theta)
    for s, t in itertools.product(ODD_LOGITS.values(), repeat=2):
        student, method.theta.grad = s.clone().requires_grad_(), None
        method.loss(Features(student), Features(t), batch_of(epoch=3)).backward()
        assert method.theta.grad.isfinite()
        assert student.grad.isfinite().all()


def test_options():
    method = create(ctkd_T_start=2.0, ctkd_T_range=4.0)
    assert method.temperature(1).item() == pytest.approx(2 + 4 / (1 + math.exp(-1)))


def test_published():
    assert_published("ctkd", Weights(0.1, 0, 0.9), {"ctkd_T_start": 1.0, "ctkd_T_range": 20.0, "ctkd_loops": 10})


def test_refused_options():
    for option in ("ctkd_T_start", "ctkd_T_range", "ctkd_loops"):
        assert_refused("ctkd", **{option: 0})
