"""KD-SVD: the loss by NumPy's SVD, gradients, odd maps, and which pairs it refuses."""

import math

import numpy as np
import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.kdsvd import aligned, kdsvd_loss
from tests.distiller_zoo.cases import (
    assert_published,
    assert_refused,
    batch_of,
    features,
    make,
    maps_pair,
    shapes,
    shapes_of_model,
)
from tests.distiller_zoo.odd_inputs import ODD_MAPS, assert_finite_for_odd_inputs
from tests.distiller_zoo.test_singular_vectors import spectral
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


def naive_kdsvd(maps_s, maps_t):
    total, before = 0.0, None
    for f_s, f_t in zip(maps_s, maps_t, strict=True):
        vectors = []
        for sample_s, sample_t in zip(f_s, f_t, strict=True):
            right_s, right_t = (np.linalg.svd(m.reshape(len(m), -1).T)[2] for m in (sample_s, sample_t))
            v_t = right_t[0] * (1 if right_t[0].sum() > 0 else -1)
            cosines = [row @ v_t for row in right_s[: min(4, sample_s[0].size)]]
            best = max(range(len(cosines)), key=lambda i, c=cosines: abs(c[i]))
            vectors.append((right_s[best] * math.copysign(1, cosines[best]), v_t))
        if before is not None:
            for (s, t), (s_before, t_before) in zip(vectors, before, strict=True):
                for c, d in np.ndindex(len(t), len(t_before)):
                    r_s, r_t = math.exp(-((s[c] - s_before[d]) ** 2) / 8), math.exp(-((t[c] - t_before[d]) ** 2) / 8)
                    total += (r_s - r_t) ** 2 / len(vectors)
        before = vectors
    return total


SIZES = [[(3, 4, 4), (5, 2, 2)], [(9, 2, 2), (7, 1, 3), (4, 3, 3)], [(2, 2, 2), (6, 3, 2)]]


@every_dtype
@pytest.mark.parametrize("sizes", SIZES)
def test_formula(sizes, dtype):
    maps_s = [spectral(3, *size, seed=10 * n, dtype=dtype)[0] for n, size in enumerate(sizes)]
    maps_t = [spectral(3, *size, seed=10 * n + 5, dtype=dtype)[0] for n, size in enumerate(sizes)]
    assert_near(kdsvd_loss(maps_s, maps_t), naive_kdsvd(arrays(*maps_s), arrays(*maps_t)))


def test_the_candidate_closest_to_the_teacher_is_taken_with_its_sign():
    candidates = torch.eye(5, 4, dtype=torch.float64).expand(2, -1, -1)
    v_t = torch.tensor([[0.1, 0.2, -0.9, 0.3, 0.0], [0.1, 0.2, 0.3, 0.4, 0.8]], dtype=torch.float64)
    expected = torch.tensor([[0.0, 0, -1, 0, 0], [0, 0, 0, 1, 0]], dtype=torch.float64)
    assert torch.equal(aligned(candidates, v_t), expected)


def test_equal_maps_of_any_scale_are_at_no_distance():
    maps = [normal(3, *size, seed=n).relu() for n, size in enumerate(SIZES[1])]
    assert abs(kdsvd_loss(maps, maps)) < 1e-20
    assert abs(kdsvd_loss([3 * m for m in maps], maps)) < 1e-20


def two_stages(s, t):
    return kdsvd_loss([s, s.flip(1)], [t, t.square()])


# The second pair has more channels than positions.
@pytest.mark.parametrize("given_shapes", [((2, 3, 2, 3), (2, 3, 3, 2)), ((2, 5, 1, 3), (2, 5, 2, 2))])
def test_gradient_and_odd_maps(given_shapes):
    s, t = maps_pair(*given_shapes)
    assert_gradient(lambda s: two_stages(s, t), s)
    assert_finite_for_odd_inputs(two_stages, s, t, ODD_MAPS)


# --- the method -----------------------------------------------------------------------------------


def test_the_method_relates_neighbouring_stages():
    of_s, of_t = shapes((3, 4, 4), (5, 2, 2)), shapes((3, 8, 8), (5, 2, 4))
    student, teacher = features(of_s, 1), features(of_t, 2)
    losses = make("kdsvd", of_s, of_t).losses(student, (teacher,), batch_of())
    assert list(losses) == ["kdsvd"]
    torch.testing.assert_close(losses["kdsvd"], kdsvd_loss(student.stages, teacher.stages))


def test_published():
    assert_published("kdsvd", Weights(1, 0, 1))


def test_refused_pairs():
    of = shapes((3, 4, 4), (5, 2, 2))
    assert_refused("kdsvd", of, shapes((4, 4, 4), (5, 2, 2)), mentions=["3-5", "4-5"])
    assert_refused("kdsvd", of, shapes((5, 4, 4)), mentions=["kdsvd"])  # one stage has no neighbour


@pytest.mark.parametrize("pair", [("resnet8", "resnet20"), ("mixer_pico", "mixer_pico")])
def test_networks_of_equal_widths_are_taken(pair):
    make("kdsvd", *map(shapes_of_model, pair))


@pytest.mark.parametrize("pair", [("wrn_16_1", "wrn_16_2"), ("ShuffleV1", "resnet8"), ("mixer_pico", "resnet8")])
def test_networks_of_other_widths_are_refused(pair):
    assert_refused("kdsvd", *map(shapes_of_model, pair))
