"""SemCKD: similarities, attention and the loss through its layers by plain loops, gradients, known values, options."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.semckd import calibrated_loss, group_similarities
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
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_inputs, assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal

OF_S, OF_T = shapes((3, 4, 4), (5, 2, 2)), shapes((4, 8, 8), (2, 4, 4), (6, 1, 1))


@pytest.mark.parametrize(("batch", "group"), [(4, 4), (3, 4), (6, 4), (9, 4), (1, 2), (5, 5)])
def test_similarities_within_groups(batch, group):
    f = normal(batch, 2, 3, 3)
    expected = np.zeros((batch, group))
    for i, j in np.ndindex(batch, batch):
        if i // group == j // group:
            expected[i, j % group] = (f[i] * f[j]).sum()
    assert_near(group_similarities(f, group), expected)


def naive_calibrated(distances, queries, keys, temperature):
    batch, stages_s, _ = distances.shape
    total = []
    for b, s in np.ndindex(batch, stages_s):
        attention = naive.softmax([queries[b, s] @ key for key in keys[b]], temperature)
        total.append(math.fsum(a * d for a, d in zip(attention, distances[b, s], strict=True)))
    return naive.mean(total)


@every_dtype
@pytest.mark.parametrize(("batch", "stages_s", "stages_t", "width"), [(1, 1, 1, 1), (3, 2, 4, 5), (4, 3, 2, 2)])
def test_formula(batch, stages_s, stages_t, width, dtype):
    given = (
        normal(batch, stages_s, stages_t, seed=1, dtype=dtype).square(),
        normal(batch, stages_s, width, seed=2, dtype=dtype),
        normal(batch, stages_t, width, seed=3, dtype=dtype),
    )
    assert_near(calibrated_loss(*given, 0.7), naive_calibrated(*arrays(*given), 0.7))


def test_equal_keys_weigh_all_teacher_stages_alike():
    distances, keys = normal(3, 2, 4).square(), torch.ones(3, 4, 5, dtype=torch.float64)
    assert_near(calibrated_loss(distances, normal(3, 2, 5), keys, 1.0), distances.mean().item())


def similarity_distance(s, t):
    return (group_similarities(s, 4) - group_similarities(t, 4)).square().mean()


def test_gradient():
    s, t = maps_pair((3, 2, 2, 2), (3, 2, 2, 2))
    assert_gradient(lambda s: similarity_distance(s, t), s)
    distances, queries, keys = normal(3, 2, 3).square(), normal(3, 2, 4, seed=1), normal(3, 3, 4, seed=2)
    assert_gradient(lambda *given: calibrated_loss(*given, 0.7), distances, queries, keys)


# --- the method -----------------------------------------------------------------------------------


@every_dtype
def test_through_its_layers(dtype):
    """A batch of three in groups of eight: the last five columns of similarities are empty."""
    method = make("semckd", OF_S, OF_T, dtype, semckd_group=8, semckd_temperature=0.5)
    student, teacher = features(OF_S, 1, dtype=dtype), features(OF_T, 2, dtype=dtype)
    maps_s, maps_t = arrays(*student.stages), arrays(*teacher.stages)
    embedded = []
    for layers, maps in ((method.query, maps_s), (method.key, maps_t)):
        rows = []
        for layer, f in zip(layers, maps, strict=True):
            assert naive.described(layer) == [(8, 4), "ReLU", (4, 2)]
            similarity = np.zeros((3, 8))
            similarity[:, :3] = naive.gram(f)
            rows.append([naive.unit(row) for row in naive.run_layers(layer, similarity)])
        embedded.append(np.stack(rows, axis=1))
    distances = np.zeros((3, 2, 3))
    for i, j in np.ndindex(2, 3):
        projection, (c_s, c_t) = method.projections[i][j], (OF_S.stages[i][0], OF_T.stages[j][0])
        between = ["BatchNorm2d", "ReLU"]
        layers = [(c_s, 2 * c_t, 1), *between, (2 * c_t, 2 * c_t, 3), *between, (2 * c_t, c_t, 1)]
        assert naive.described(projection) == layers
        s, t = naive.common_size(maps_s[i], maps_t[j])
        distances[:, i, j] = ((naive.run_layers(projection, s) - t) ** 2).mean(axis=(1, 2, 3))
    found = method.losses(student, (teacher,), batch_of())
    assert list(found) == ["semckd"]
    assert_near(found["semckd"], naive_calibrated(distances, *embedded, 0.5))


def test_gradient_through_its_layers():
    """In evaluation mode, so that batch norm is a fixed scale."""
    method, student, teacher = make("semckd", OF_S, OF_T).eval(), features(OF_S, 1), features(OF_T, 2)

    def loss(f):
        return method.loss(replace(student, stages=(f, student.stages[1])), teacher, batch_of())

    assert_gradient(loss, student.stages[0])


def test_odd_features():
    assert_finite_for_odd_inputs(similarity_distance, *maps_pair((3, 2, 2, 2), (3, 2, 2, 2)))
    assert_method_stays_finite(lambda: make("semckd"), CNN, WIDE)


def test_published():
    assert_published("semckd", Weights(1, 1, 400), {"semckd_group": 64, "semckd_temperature": 1.0})


def test_refused_options():
    assert_refused("semckd", semckd_group=3)
    assert_refused("semckd", semckd_temperature=0.0)
