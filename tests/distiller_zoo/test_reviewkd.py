"""ReviewKD: the context loss and the fusions by plain loops, gradients, known values, warm-up and options."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.reviewkd import hierarchical_context_loss
from tests import naive
from tests.distiller_zoo.cases import (
    CNN,
    WIDE,
    assert_published,
    assert_refused,
    batch_of,
    features,
    make,
    maps_pair,
    shapes,
)
from tests.distiller_zoo.odd_inputs import ODD_MAPS, assert_finite_for_odd_inputs, assert_method_stays_finite, without
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal

OF_S, OF_T = shapes((3, 4, 4), (5, 2, 2)), shapes((4, 8, 8), (2, 4, 4), (6, 1, 1))


def naive_hcl(f_s, f_t):
    total, weights, weight = ((f_s - f_t) ** 2).mean(), 1.0, 1.0
    for size in (4, 2, 1):
        if size < f_s.shape[2]:
            weight /= 2
            weights += weight
            total += weight * ((naive.pool(f_s, size, size) - naive.pool(f_t, size, size)) ** 2).mean()
    return total / weights


def nearest(maps, height, width):
    rows = [i * maps.shape[2] // height for i in range(height)]
    columns = [j * maps.shape[3] // width for j in range(width)]
    return maps[:, :, rows][:, :, :, columns]


@every_dtype
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (3, 2, 4, 4), (1, 2, 2, 2), (4, 5, 1, 1), (2, 3, 7, 5)])
def test_formula(shape, dtype):
    maps = maps_pair(shape, shape, dtype)
    assert_near(hierarchical_context_loss(*maps), naive_hcl(*arrays(*maps)))


def test_known_maps():
    """A constant difference is the same in every resolution; one without a mean is in the finest alone."""
    f = normal(2, 3, 8, 8)
    assert hierarchical_context_loss(f, f) == 0
    assert_near(hierarchical_context_loss(f + 3, f), 9.0)
    checks = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2 - 1
    assert_near(hierarchical_context_loss(f + checks, f), 1 / (1 + 1 / 2 + 1 / 4 + 1 / 8))


def test_gradient_and_odd_maps():
    s, t = maps_pair((2, 3, 4, 4), (2, 3, 4, 4))
    assert_gradient(lambda s: hierarchical_context_loss(s, t), s)
    assert_finite_for_odd_inputs(hierarchical_context_loss, s, t, ODD_MAPS)


# --- the method -----------------------------------------------------------------------------------


@every_dtype
def test_from_the_embedding_upwards(dtype):
    method = make("reviewkd", OF_S, OF_T, dtype)
    student, teacher = features(OF_S, 1, dtype=dtype), features(OF_T, 2, dtype=dtype)
    levels_s = arrays(student.embedding[:, :, None, None], student.stages[1], student.stages[0])
    levels_t = arrays(teacher.embedding[:, :, None, None], teacher.preacts[2], teacher.preacts[1])
    expected, deeper = 0.0, None
    for fusion, f_s, f_t in zip(method.fusions, levels_s, levels_t, strict=True):
        assert naive.described(fusion.conv_in) == [(f_s.shape[1], 5, 1), "BatchNorm2d"]
        assert naive.described(fusion.conv_out) == [(5, f_t.shape[1], 3), "BatchNorm2d"]
        x = naive.run_layers(fusion.conv_in, f_s)
        if deeper is not None:
            assert naive.described(fusion.attention) == [(10, 2, 1), "Sigmoid"]
            deeper = nearest(deeper, *x.shape[2:])
            gates = naive.run_layers(fusion.attention, np.concatenate([x, deeper], axis=1))
            x = x * gates[:, :1] + deeper * gates[:, 1:]
        deeper = nearest(x, *f_t.shape[2:])
        expected += naive_hcl(naive.run_layers(fusion.conv_out, deeper), f_t)
    losses = method.losses(student, (teacher,), batch_of(epoch=20))
    assert list(losses) == ["reviewkd"]
    assert_near(losses["reviewkd"], expected)
    assert_near(method.loss(student, teacher, batch_of(epoch=5)), expected / 4)
    assert_near(method.loss(student, teacher, batch_of(epoch=200)), expected)


@pytest.mark.parametrize("field", ["stages", "embedding"])
def test_gradient_through_the_fusions(field):
    """In evaluation mode, so that batch norm is a fixed scale."""
    method, student, teacher = make("reviewkd", OF_S, OF_T).eval(), features(OF_S, 1), features(OF_T, 2)

    def loss(f):
        given = f if field == "embedding" else (f, student.stages[1])
        return method.loss(replace(student, **{field: given}), teacher, batch_of())

    assert_gradient(loss, student.embedding if field == "embedding" else student.stages[0])


@pytest.mark.parametrize(("warmup", "epoch", "share"), [(0, 1, 1.0), (1, 1, 1.0), (10, 3, 0.3)])
def test_warm_up(warmup, epoch, share):
    method, student, teacher = make("reviewkd", reviewkd_warmup=warmup), features(CNN, 1), features(WIDE, 2)
    found, whole = (method.loss(student, teacher, batch_of(epoch=number)) for number in (epoch, 99))
    assert_near(found / whole, share)


def test_no_level_is_wider_than_512_inside():
    method = make("reviewkd", shapes((3, 4, 4), (5, 2, 2), embedding=1280))
    assert {fusion.conv_in[0].out_channels for fusion in method.fusions} == {512}


def test_odd_features():
    kinds = without("a batch of one")  # batch norm needs two
    assert_method_stays_finite(lambda: make("reviewkd"), CNN, WIDE, kinds)


def test_published():
    assert_published("reviewkd", Weights(1, 0, 1), {"reviewkd_warmup": 20})


def test_refused_options():
    assert_refused("reviewkd", reviewkd_warmup=-1)
