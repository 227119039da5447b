"""CAT-KD: class maps and their distance by plain loops, gradients, known values, networks, and options."""

import numpy as np
import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.catkd import class_attention_loss, class_maps
from models import create_model
from tests import naive
from tests.distiller_zoo.cases import assert_published, assert_refused, make, shapes
from tests.distiller_zoo.last_maps import (
    assert_a_classifier_that_reads_something_else_is_refused,
    assert_it_trains_the_students_classifier,
    assert_other_families_are_taken,
    assert_the_networks_are_no_part_of_the_method,
    classifiers_of,
    every_case,
    example,
    loss_of,
    method_for,
    networks,
    random_maps,
)
from tests.distiller_zoo.odd_inputs import ODD_MAPS, assert_finite_for_odd_inputs, assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal

every_form = pytest.mark.parametrize("normalise", [False, True])


def naive_catkd(maps, classifiers, size=2, normalise=False):
    """`classifiers`: weight and bias of the student, weight and bias of the teacher."""
    squares = []
    for f_s, f_t in zip(*maps, strict=True):
        for row_s, row_t in zip(classifiers[0], classifiers[2], strict=True):
            pair = [np.array([row @ cell for cell in naive.cells(f, size)]) for row, f in ((row_s, f_s), (row_t, f_t))]
            cam_s, cam_t = map(naive.unit, pair) if normalise else pair
            squares += list((cam_t - cam_s) ** 2)
    return naive.mean(squares)


@every_dtype
@every_case
@every_form
@pytest.mark.parametrize("size", [1, 2, 3])
def test_formula(shape_s, shape_t, classes, size, normalise, dtype):
    maps, classifiers, _ = example(shape_s, shape_t, classes, dtype)
    cams = class_maps(maps[0], classifiers[0], size), class_maps(maps[1], classifiers[2], size)
    expected = naive_catkd(arrays(*maps), arrays(*classifiers), size, normalise)
    assert_near(class_attention_loss(*cams, normalise), expected)


@every_form
def test_gradient(normalise):
    maps, (w_s, _, w_t, _), _ = example((2, 3, 4, 4), (2, 2, 2, 2), 4)
    cam_t = class_maps(maps[1], w_t, 2)
    assert_gradient(lambda f, w: class_attention_loss(class_maps(f, w, 2), cam_t, normalise), maps[0], w_s)


def test_known_values():
    f, weight = normal(2, 3, 4, 4), normal(5, 3, seed=1)
    maps = class_maps(f, weight, 2)
    assert class_attention_loss(7 * maps, maps, True) < 1e-20
    assert_near(class_attention_loss(3 * maps, maps, False), (4 * maps.square()).mean().item())
    assert class_attention_loss(maps, maps, False) == 0


def test_a_map_of_one_cell_is_the_logits_but_for_the_bias():
    network = create_model("resnet8", 10, 8).eval()
    with torch.no_grad():
        features = network.features(normal(3, 3, 8, 8, dtype=torch.float32))
        classifier = network.last_linear
        found = class_maps(features.last_map, classifier.weight, 1).squeeze(2) + classifier.bias
    torch.testing.assert_close(found, features.logits)


@every_form
def test_odd_maps(normalise):
    weight = normal(5, 3, dtype=torch.float32)

    def loss(f_s, f_t):
        return class_attention_loss(class_maps(f_s, weight, 2), class_maps(f_t, weight, 2), normalise)

    assert_finite_for_odd_inputs(loss, normal(3, 3, 4, 4), normal(3, 3, 4, 4, seed=1), ODD_MAPS)
    of = shapes((6, 2, 2))
    assert_method_stays_finite(lambda: make("catkd", of, of, catkd_normalise=normalise), of, of)


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"catkd_size": 1, "catkd_normalise": True}])
def test_losses(options):
    student, teacher = networks()
    maps, settings = random_maps(), (options.get("catkd_size", 2), options.get("catkd_normalise", False))
    expected = naive_catkd(arrays(*maps), classifiers_of(student, teacher), *settings)
    assert_near(loss_of(method_for("catkd", student, teacher, **options), maps), expected)


def test_networks():
    assert_it_trains_the_students_classifier("catkd", naive_catkd, reads_bias=False)  # class maps have no bias
    assert_the_networks_are_no_part_of_the_method("catkd")
    assert_other_families_are_taken("catkd", naive_catkd)
    assert_a_classifier_that_reads_something_else_is_refused("catkd")


def test_published():
    assert_published("catkd", Weights(1, 0, 15), {"catkd_size": 2, "catkd_normalise": False})


def test_refused_options():
    assert_refused("catkd", catkd_size=0)
