"""OFD: margins and partial distance by plain loops, gradients, where margins come from, connectors and weights."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from distiller_zoo import METHODS, Pair, Weights, create_method
from distiller_zoo.ofd import expected_negative, partial_distance
from models import create_model
from tests import naive
from tests.distiller_zoo.cases import CNN, WIDE, assert_published, batch_of, features, make, maps_pair, shapes
from tests.distiller_zoo.odd_inputs import ODD_MAPS, assert_finite_for_odd_inputs, assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal

OF_S, OF_T = shapes((3, 4, 4), (5, 2, 2)), shapes((4, 8, 8), (2, 4, 4), (6, 1, 1))


# --- margins --------------------------------------------------------------------------------------


def published_margin(mean, std):
    std = abs(std)
    if stats.norm.cdf(-mean / std) > 0.001:
        return mean - std * math.exp(-((mean / std) ** 2) / 2) / math.sqrt(2 * math.pi) / stats.norm.cdf(-mean / std)
    return -3 * std


def test_expected_negative():
    mean = torch.tensor([0.0, 1.0, -1.0, 3.0, 3.2, -40.0, 0.3, 5.0], dtype=torch.float64)
    std = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.0, 1.0, -0.7, 1.0], dtype=torch.float64)
    found = expected_negative(mean, std)
    assert_near(found, [published_margin(m.item(), s.item()) for m, s in zip(mean, std, strict=True)])
    assert_near(found[0], -math.sqrt(2 / math.pi))
    assert found[4] == -3  # Φ(−3.2) < 0.001
    assert_near(found[5], -40)  # hardly ever positive: the mean itself
    draws = 0.5 * normal(10**6) + 1
    assert found[1].item() == pytest.approx(draws[draws < 0].mean().item(), rel=0.01)


def test_margins_of_constant_channels_are_finite():
    found = expected_negative(torch.tensor([0.0, 2.0, -2.0]), torch.zeros(3))
    np.testing.assert_allclose(found.numpy(), [0, 0, -2], atol=1e-9)


@pytest.mark.parametrize("model", ["resnet8", "resnet8x4", "wrn_16_1", "vgg8", "MobileNetV2", "ResNet50"])
def test_stage_norms_end_the_stages(model):
    """What their bias gains, the preacts of their stage gain, each at every position."""
    torch.manual_seed(0)
    network = create_model(model, 10, 8).double().eval()
    x = normal(2, 3, 8, 8)
    norms = network.stage_norms()
    with torch.no_grad():
        before = network.features(x).preacts
        for stage, norm in enumerate(norms):
            norm.bias += 0.5
            torch.testing.assert_close(network.features(x).preacts[stage], before[stage] + 0.5)
            norm.bias -= 0.5
    assert len(norms) == len(before)


def test_margins_come_from_the_teacher():
    torch.manual_seed(0)
    teacher, student = create_model("wrn_16_1", 10, 8), create_model("resnet8", 10, 8)
    for norm in teacher.stage_norms():
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    method = create_method("ofd", Pair(student.feature_shapes(), (teacher.feature_shapes(),), 50))
    method.inspect_networks(student, (teacher,))
    assert [j for _, j in method.pairs] == [0, 1, 2]
    for margin, norm in zip(method.margins, teacher.stage_norms(), strict=True):
        expected = [published_margin(m, s) for m, s in zip(*arrays(norm.bias, norm.weight), strict=True)]
        np.testing.assert_allclose(margin(torch.zeros(1, len(expected), 1, 1)).numpy(), expected, rtol=1e-5, atol=1e-6)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    with torch.no_grad():
        method.loss(student.features(torch.randn(2, 3, 8, 8)), teacher.features(torch.randn(2, 3, 8, 8)), batch_of(2))
    method.after_step()
    state = method.state_dict()
    assert all(torch.equal(state[key], value) for key, value in before.items() if key.startswith("margins"))


@pytest.mark.parametrize("model", ["ShuffleV1", "ShuffleV2", "mixer_pico"])
def test_margins_of_other_families_are_collected(model):
    """Means of all negative values so far, the batch at hand counted in, and unknown to what has none."""
    teacher = create_model(model, 10, 8)
    assert teacher.stage_norms() is None
    method = create_method("ofd", Pair(OF_S, (teacher.feature_shapes(),), 50))
    method.inspect_networks(None, (teacher,))
    margin, seen = method.margins[0], []
    for step in range(3):
        seen.append(normal(2, len(margin.total), 3, 3, seed=step))
        seen[-1][:, 0] = 1
        everything = torch.cat(seen).transpose(0, 1).flatten(1)
        expected = [0 if min(row) >= 0 else np.mean([v for v in row if v < 0]) for row in everything.tolist()]
        assert_near(margin(seen[-1]), expected)
        assert_near(margin(seen[-1]), expected)  # asked twice in a step, it counts once
        method.after_step()
    other = create_method("ofd", Pair(OF_S, (teacher.feature_shapes(),), 50))
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.margins[0](seen[0]), margin(seen[0]))


# --- the loss -------------------------------------------------------------------------------------


def naive_partial(s, t, margin):
    """By three cases: beyond the margin, between margin and zero, above zero."""
    total = 0.0
    for b, c, i, j in np.ndindex(s.shape):
        x, y, m = s[b, c, i, j], t[b, c, i, j], margin[c]
        if y > 0:
            total += (x - y) ** 2
        elif y <= m:
            total += (x - m) ** 2 if x > m else 0
        else:
            total += (x - y) ** 2 if x > y else 0
    return total / len(s)


@every_dtype
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 4), (3, 5, 2, 3)])
def test_formula(shape, dtype):
    s, t = maps_pair(shape, shape, dtype)
    margin = -normal(shape[1], seed=3, dtype=dtype).abs()
    assert_near(partial_distance(s, t, margin), naive_partial(*arrays(s, t, margin)))


def test_known_neurons():
    s = torch.tensor([-2.0, 0.0, 1.0]).view(3, 1, 1, 1)
    for t, expected in ((-5.0, 1 + 4), (-0.5, 0.25 + 2.25), (1.0, 9 + 1)):
        found = partial_distance(s, torch.full_like(s, t), torch.tensor([-1.0]))
        assert found.item() == pytest.approx(expected / 3)


def test_gradient_and_odd_maps():
    def loss(s, t):
        return partial_distance(s, t, torch.tensor([-0.1, -0.2, -0.3]).to(s))

    s, t = maps_pair((2, 3, 2, 2), (2, 3, 2, 2))
    assert_gradient(lambda s: loss(s, t), s)
    assert_finite_for_odd_inputs(loss, s, t, ODD_MAPS)


@every_dtype
def test_through_its_connectors(dtype):
    """Two of three teacher stages; maps of different sizes; margins that are known."""
    method = make("ofd", OF_S, OF_T, dtype)
    student, teacher = features(OF_S, 1, dtype=dtype), features(OF_T, 2, dtype=dtype)
    expected = 0.0
    for place, (i, j) in enumerate(((0, 1), (1, 2))):
        margin, connector = method.margins[place], method.connectors[place]
        margin.known = True
        margin.total.copy_(-normal(len(margin.total), seed=place).abs())
        margin.count.fill_(1)
        assert naive.described(connector) == [(OF_S.stages[i][0], OF_T.stages[j][0], 1), "BatchNorm2d"]
        s, t = naive.common_size(naive.run_layers(connector, *arrays(student.preacts[i])), *arrays(teacher.preacts[j]))
        expected += naive_partial(s, t, margin.total.numpy()) / 2 ** (1 - place)
    losses = method.losses(student, (teacher,), batch_of())
    assert list(losses) == ["ofd"]
    assert_near(losses["ofd"], expected)


def test_gradient_through_the_connectors():
    """In evaluation mode, so that batch norm is a fixed scale."""
    method, student, teacher = make("ofd", OF_S, OF_T).eval(), features(OF_S, 1), features(OF_T, 2)

    def loss(f):
        return method.loss(replace(student, preacts=(f, student.preacts[1])), teacher, batch_of())

    assert_gradient(loss, student.preacts[0])


def test_odd_features():
    assert_method_stays_finite(lambda: make("ofd"), CNN, WIDE)


def test_published():
    assert_published("ofd", Weights(1, 0, 0.001))
    assert METHODS["overhaul"] is METHODS["ofd"]
