"""SD-DKD: DKD's loss of regions by plain loops, gradients, networks, warm-up and options (regions: test_sdd.py)."""

import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.dkd import nckd_of_each, tckd_of_each
from distiller_zoo.sdd import region_logits, region_weights
from distiller_zoo.sdd_dkd import of_each_region
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


def naive_sdd_dkd(
    maps, classifiers, labels=LABELS, scales=(1, 2), complementary=2.0, weights=(1, 8), seen=lambda logits: logits
):
    """`seen` is what the logits of a region go through before they are compared."""

    def loss(s, t, label):
        return naive.dkd_of_one(seen(s), seen(t), label, *weights, 4.0)

    return naive.over_regions(maps, classifiers, labels.tolist(), scales, complementary, loss)


def loss_of_regions(z_s, z_t, labels, complementary=2.0):
    each = of_each_region(tckd_of_each, z_s, z_t, labels, 4.0) + 8 * of_each_region(nckd_of_each, z_s, z_t, labels, 4.0)
    return (region_weights(z_t, labels, complementary) * each).mean()


@every_dtype
@every_case
@pytest.mark.parametrize("scales", [(1,), (1, 2), (1, 2, 4)])
def test_formula(shape_s, shape_t, classes, scales, dtype):
    maps, classifiers, labels = example(shape_s, shape_t, classes, dtype)
    z_s, z_t = (region_logits(f, *classifiers[2 * i : 2 * i + 2], scales) for i, f in enumerate(maps))
    assert_near(loss_of_regions(z_s, z_t, labels), naive_sdd_dkd(arrays(*maps), arrays(*classifiers), labels, scales))


def test_gradient():
    maps, (w_s, b_s, w_t, b_t), labels = example((2, 3, 4, 4), (2, 2, 2, 2), 4)
    z_t = region_logits(maps[1], w_t, b_t, (1, 2))
    assert_gradient(lambda *given: loss_of_regions(region_logits(*given, (1, 2)), z_t, labels), maps[0], w_s, b_s)


def test_odd_maps():
    weight, bias = normal(5, 3, dtype=torch.float32), normal(5, dtype=torch.float32)

    def loss(f_s, f_t):
        z_s, z_t = region_logits(f_s, weight, bias, (1, 2, 4)), region_logits(f_t, weight, bias, (1, 2, 4))
        return loss_of_regions(z_s, z_t, torch.arange(len(f_t)))

    assert_finite_for_odd_inputs(loss, normal(3, 3, 4, 4), normal(3, 3, 4, 4, seed=1), ODD_MAPS)
    of = shapes((6, 2, 2))
    assert_method_stays_finite(lambda: make("sdd_dkd", of, of), of, of)


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"sdd_scales": "1,2,4", "dkd_alpha": 2.0, "dkd_beta": 3.0}])
def test_losses(options):
    student, teacher = networks()
    maps, scales = random_maps(), (1, 2, 4) if options else (1, 2)
    weights = options.get("dkd_alpha", 1), options.get("dkd_beta", 8)
    expected = naive_sdd_dkd(arrays(*maps), classifiers_of(student, teacher), scales=scales, weights=weights)
    assert_near(loss_of(method_for("sdd_dkd", student, teacher, **options), maps), expected)


def test_logits_of_each_region_are_standardised():
    student, teacher = networks()
    method, maps, classifiers = method_for("sdd_dkd", student, teacher), random_maps(), classifiers_of(student, teacher)
    method.logit_standardization = True
    expected = naive_sdd_dkd(arrays(*maps), classifiers, seen=naive.z_scored)
    assert_near(loss_of(method, maps), expected)
    assert abs(expected / naive_sdd_dkd(arrays(*maps), classifiers) - 1) > 0.1


def test_the_label_of_a_mixed_image_is_that_of_its_larger_part():
    student, teacher = networks()
    method, maps, classifiers = method_for("sdd_dkd", student, teacher), random_maps(), classifiers_of(student, teacher)
    others = (LABELS + 1) % 10
    targets = 0.4 * torch.eye(10)[LABELS] + 0.6 * torch.eye(10)[others]
    expected = naive_sdd_dkd(arrays(*maps), classifiers, others)
    assert_near(loss_of(method, maps, targets=targets), expected)
    assert abs(expected / naive_sdd_dkd(arrays(*maps), classifiers) - 1) > 1e-3


def test_networks():
    assert_it_trains_the_students_classifier("sdd_dkd", naive_sdd_dkd, reads_bias=True)
    assert_the_networks_are_no_part_of_the_method("sdd_dkd")
    assert_other_families_are_taken("sdd_dkd", naive_sdd_dkd)
    assert_a_classifier_that_reads_something_else_is_refused("sdd_dkd")


def test_warm_up():
    student, teacher = networks()
    method, maps = method_for("sdd_dkd", student, teacher), random_maps()
    assert_near(loss_of(method, maps, epoch=5), loss_of(method, maps).item() / 4)
    assert loss_of(method, maps, epoch=20) == loss_of(method, maps)
    assert loss_of(method_for("sdd_dkd", student, teacher, dkd_warmup=0), maps, epoch=1) == loss_of(method, maps)


def test_published():
    options = {"sdd_scales": "1,2", "sdd_complementary": 2.0}
    options |= {"dkd_alpha": 1.0, "dkd_beta": 8.0, "dkd_T": 4.0, "dkd_warmup": 20}
    assert_published("sdd_dkd", Weights(1, 0, 1), options)


def test_refused_options():
    assert_refused("sdd_dkd", dkd_T=0.0)
    for option in ("sdd_complementary", "dkd_alpha", "dkd_beta", "dkd_warmup"):
        assert_refused("sdd_dkd", **{option: -1})
