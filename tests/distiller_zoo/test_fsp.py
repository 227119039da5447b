"""FSP: flow matrices by plain loops, gradients, its initial stage, and which pairs and options it refuses."""

import numpy as np
import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.fsp import flow_matrix, fsp_loss
from tests import naive
from tests.distiller_zoo.cases import (
    assert_published,
    assert_refused,
    batch_of,
    every_map_shape,
    features,
    make,
    maps_pair,
    shapes,
    shapes_of_model,
)
from tests.distiller_zoo.odd_inputs import ODD_MAPS, assert_finite_for_odd_inputs
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype

# Student and teacher may differ in resolution, not in width.
OF_S = shapes((3, 4, 4), (5, 2, 2), stem=(2, 8, 8))
OF_T = shapes((3, 8, 8), (5, 2, 4), stem=(2, 4, 4))


def naive_flow(bottom, top):
    bottom, top = naive.common_size(bottom, top)
    out = np.zeros((len(top), top.shape[1], bottom.shape[1]))
    for b, c, d in np.ndindex(out.shape):
        out[b, c, d] = (top[b, c] * bottom[b, d]).mean()
    return out


@every_dtype
@every_map_shape
def test_flow(shape_s, shape_t, dtype):
    maps = maps_pair(shape_s, shape_t, dtype)
    assert_near(flow_matrix(*maps), naive_flow(*arrays(*maps)))


def test_known_maps():
    ones = [torch.ones(1, 2, 2, 2), torch.ones(1, 3, 1, 1)]
    assert fsp_loss([2 * ones[0], ones[1]], ones) == 1
    assert fsp_loss(ones, ones) == 0


def two_stages(s, t):
    return fsp_loss([s, s[:, :2]], [t, t[:, :2]])


def test_gradient_and_odd_maps():
    s, t = maps_pair((2, 3, 4, 4), (2, 3, 2, 2))
    assert_gradient(lambda s: two_stages(s, t), s)
    assert_finite_for_odd_inputs(two_stages, s, t, ODD_MAPS)


# --- the method -----------------------------------------------------------------------------------


def losses_from_stem_to_last_stage(dtype=torch.float64):
    student, teacher = features(OF_S, 1, dtype=dtype), features(OF_T, 2, dtype=dtype)
    maps, expected = [arrays(side.stem, *side.stages) for side in (student, teacher)], 0.0
    for place in (0, 1):
        flows = [naive_flow(of[place], of[place + 1]) for of in maps]
        expected += ((flows[0] - flows[1]) ** 2).mean()
    return student, teacher, expected


@every_dtype
def test_losses_of_the_initial_stage(dtype):
    student, teacher, expected = losses_from_stem_to_last_stage(dtype)
    losses = make("fsp", OF_S, OF_T, dtype).initial_losses(student, (teacher,), batch_of())
    assert list(losses) == ["fsp"]
    assert_near(losses["fsp"], expected)


def test_losses_of_the_main_stage():
    """None as published; those of the initial stage where asked."""
    student, teacher, expected = losses_from_stem_to_last_stage()
    assert make("fsp", OF_S, OF_T).losses(student, (teacher,), batch_of()) == {}
    found = make("fsp", OF_S, OF_T, fsp_main=True).losses(student, (teacher,), batch_of())
    assert_near(found["fsp"], expected)


def test_the_initial_stage_trains_the_student():
    method = make("fsp", OF_S, OF_T)
    assert (method.initial_epochs, method.initial_trains_student) == (30, True)
    assert make("fsp", OF_S, OF_T, init_epochs=7).initial_epochs == 7
    assert list(method.parameters()) == []


def test_published():
    assert_published("fsp", Weights(1, 0, 50), {"init_epochs": 30, "fsp_main": False})


def test_refused_options():
    assert_refused("fsp", OF_S, OF_T, init_epochs=0, mentions=["--init_epochs", "--fsp_main"])
    assert_refused("fsp", OF_S, OF_T, init_epochs=-1, fsp_main=True, mentions=["--init_epochs"])
    make("fsp", OF_S, OF_T, init_epochs=0, fsp_main=True)


@pytest.mark.parametrize("stages", [((3, 4, 4), (6, 2, 2)), ((3, 4, 4),)], ids=["another width", "fewer stages"])
def test_refused_pairs(stages):
    widths = "-".join(str(width) for width in (2, *(stage[0] for stage in stages)))
    assert_refused("fsp", OF_S, shapes(*stages, stem=(2, 8, 8)), mentions=["2-3-5", widths])


@pytest.mark.parametrize("pair", [("resnet8", "resnet20"), ("mixer_pico", "mixer_pico")])
def test_networks_of_equal_widths_are_taken(pair):
    make("fsp", *map(shapes_of_model, pair))


@pytest.mark.parametrize("pair", [("wrn_16_1", "wrn_16_2"), ("ShuffleV1", "resnet8"), ("mixer_pico", "resnet8")])
def test_networks_of_other_widths_are_refused(pair):
    assert_refused("fsp", *map(shapes_of_model, pair))
