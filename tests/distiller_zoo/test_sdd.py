"""SDD: the loss of regions by plain loops, gradients, known regions and weights, networks, and options."""

import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.kd import kd_loss
from distiller_zoo.sdd import region_logits, region_weights, sdd_loss
from tests import naive
from tests.distiller_zoo.cases import assert_published, assert_refused, make, shapes
from tests.distiller_zoo.last_maps import (
    LABELS,
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


def naive_sdd(
    maps, classifiers, labels=LABELS, scales=(1, 2), complementary=2.0, temperature=4.0, seen=lambda logits: logits
):
    """`seen` is what the logits of a region go through before they are compared."""

    def loss(s, t, label):
        return naive.kd_of_one(seen(s), seen(t), temperature)

    return naive.over_regions(maps, classifiers, labels.tolist(), scales, complementary, loss)


@every_dtype
@every_case
@pytest.mark.parametrize("scales", [(1,), (1, 2), (1, 2, 4)])
@pytest.mark.parametrize("complementary", [1.0, 2.0])
def test_formula(shape_s, shape_t, classes, scales, complementary, dtype):
    maps, classifiers, labels = example(shape_s, shape_t, classes, dtype)
    z_s, z_t = (region_logits(f, *classifiers[2 * i : 2 * i + 2], scales) for i, f in enumerate(maps))
    found = sdd_loss(z_s, z_t, region_weights(z_t, labels, complementary), 4.0)
    assert_near(found, naive_sdd(arrays(*maps), arrays(*classifiers), labels, scales, complementary))


def test_gradient():
    maps, (w_s, b_s, w_t, b_t), labels = example((2, 3, 4, 4), (2, 2, 2, 2), 4)
    z_t = region_logits(maps[1], w_t, b_t, (1, 2))
    weights = region_weights(z_t, labels, 2.0)
    assert_gradient(lambda *student: sdd_loss(region_logits(*student, (1, 2)), z_t, weights, 4.0), maps[0], w_s, b_s)


def test_the_whole_alone_is_kd():
    maps, (w_s, b_s, w_t, b_t), labels = example((3, 4, 8, 8), (3, 5, 4, 4), 6)
    z_s, z_t = region_logits(maps[0], w_s, b_s, (1,)), region_logits(maps[1], w_t, b_t, (1,))
    found = sdd_loss(z_s, z_t, region_weights(z_t, labels, 2.0), 4.0)
    assert_near(found, kd_loss(z_s[0], z_t[0], 4.0).item())


def test_complementary_regions():
    """Two samples: the teacher is right on the first as a whole, wrong on the second; two further regions each."""
    right, wrong = [0.0, 5.0], [5.0, 0.0]
    logits = torch.tensor([[right, wrong], [right, wrong], [wrong, right]])
    assert region_weights(logits, torch.tensor([1, 1]), 2.0).tolist() == [[1, 1], [1, 1], [2, 2]]
    assert region_weights(logits, torch.tensor([1, 0]), 3.0).tolist() == [[1, 1], [1, 1], [3, 3]]
    assert region_weights(logits, torch.tensor([0, 0]), 2.0).tolist() == [[1, 1], [1, 1], [2, 2]]


def test_order_of_the_regions():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    found = region_logits(maps, torch.ones(1, 1), torch.tensor([100.0]), (1, 2))
    assert found.flatten().tolist() == [107.5, 102.5, 104.5, 110.5, 112.5]


def test_odd_maps():
    weight, bias = normal(5, 3, dtype=torch.float32), normal(5, dtype=torch.float32)

    def loss(f_s, f_t):
        z_s, z_t = region_logits(f_s, weight, bias, (1, 2, 4)), region_logits(f_t, weight, bias, (1, 2, 4))
        return sdd_loss(z_s, z_t, region_weights(z_t, torch.arange(len(f_t)), 2.0), 4.0)

    assert_finite_for_odd_inputs(loss, normal(3, 3, 4, 4), normal(3, 3, 4, 4, seed=1), ODD_MAPS)
    of = shapes((6, 2, 2))
    assert_method_stays_finite(lambda: make("sdd", of, of), of, of)


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"sdd_scales": "1,2,4", "sdd_complementary": 3.0, "sdd_T": 2.0}])
def test_losses(options):
    student, teacher = networks()
    maps, scales = random_maps(), (1, 2, 4) if options else (1, 2)
    settings = options.get("sdd_complementary", 2.0), options.get("sdd_T", 4.0)
    expected = naive_sdd(arrays(*maps), classifiers_of(student, teacher), LABELS, scales, *settings)
    assert_near(loss_of(method_for("sdd", student, teacher, **options), maps), expected)


def test_logits_of_each_region_are_standardised():
    student, teacher = networks()
    method, maps, classifiers = method_for("sdd", student, teacher), random_maps(), classifiers_of(student, teacher)
    method.logit_standardization = True
    expected = naive_sdd(arrays(*maps), classifiers, seen=naive.z_scored)
    assert_near(loss_of(method, maps), expected)
    assert abs(expected / naive_sdd(arrays(*maps), classifiers) - 1) > 0.1


def test_the_label_of_a_mixed_image_is_that_of_its_larger_part():
    student, teacher = networks()
    method, maps, classifiers = method_for("sdd", student, teacher), random_maps(), classifiers_of(student, teacher)
    weight, bias = classifiers[2:]
    favourites = torch.tensor([(weight @ f.mean(axis=(1, 2)) + bias).argmax() for f in maps[1].numpy()])
    assert (favourites != LABELS).any()  # where the teacher is right about the larger part alone
    targets = 0.4 * torch.eye(10)[LABELS] + 0.6 * torch.eye(10)[favourites]
    expected = naive_sdd(arrays(*maps), classifiers, favourites)
    assert_near(loss_of(method, maps, targets=targets), expected)
    assert abs(expected / naive_sdd(arrays(*maps), classifiers) - 1) > 1e-3


def test_networks():
    assert_it_trains_the_students_classifier("sdd", naive_sdd, reads_bias=True)
    assert_the_networks_are_no_part_of_the_method("sdd")
    assert_other_families_are_taken("sdd", naive_sdd)
    assert_a_classifier_that_reads_something_else_is_refused("sdd")


def test_published():
    options = {"sdd_scales": "1,2", "sdd_complementary": 2.0, "sdd_T": 4.0}
    assert_published("sdd", Weights(0.1, 0, 0.9), options)


def test_refused_options():
    assert_refused("sdd", sdd_T=0.0)
    assert_refused("sdd", sdd_complementary=-1.0)
