"""crd_queue: the contrast by plain loops, its gradient, known values, the queue over steps, and options."""

import math

import numpy as np
import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.crd_queue import queue_contrast
from tests import naive
from tests.distiller_zoo.cases import (
    CNN,
    assert_published,
    assert_refused,
    batch_of,
    losses_of_embeddings,
    make,
    maps_pair,
)
from tests.distiller_zoo.memories import (
    PAIR,
    assert_a_batch_enters_the_queue_after_its_step,
    assert_a_step_without_the_loss_changes_nothing,
    assert_state_dict_carries_the_memory,
    assert_the_queue_is_no_longer_than_the_data_set,
)
from tests.distiller_zoo.odd_inputs import assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal, unit


def naive_queue_contrast(z_s, z_t, queue, same=None, temperature=0.07):
    """`same` says of each sample which rows of the queue are of its own image."""
    same = np.zeros((len(z_s), len(queue)), bool) if same is None else same
    total = []
    for row_s, row_t, own in zip(z_s, z_t, same, strict=True):
        negatives = [(row_s * q).sum() for q, mine in zip(queue, own, strict=True) if not mine]
        total.append(-naive.log_softmax([(row_s * row_t).sum(), *negatives], temperature)[0])
    return naive.mean(total)


@every_dtype
@pytest.mark.parametrize(("batch", "width", "length"), [(1, 3, 1), (4, 5, 9), (7, 2, 30)])
def test_formula(batch, width, length, dtype):
    z = unit(batch, width, seed=1, dtype=dtype), unit(batch, width, seed=2, dtype=dtype)
    queue, same = unit(length, width, seed=3, dtype=dtype), normal(batch, length, seed=4) > 0.5
    expected = naive_queue_contrast(*arrays(*z, queue), same.tolist(), 0.07)
    assert_near(queue_contrast(*z, queue, same, 0.07), expected)


def test_gradient():
    queue, same = unit(6, 4, seed=9), torch.eye(3, 6, dtype=torch.bool)
    assert_gradient(lambda s, t: queue_contrast(s, t, queue, same, 0.5), *maps_pair((3, 4), (3, 4)))


def test_orthogonal_samples():
    """The positive has cosine 1, each of three negatives 0."""
    z = torch.eye(4, dtype=torch.float64)
    found = queue_contrast(z[:1], z[:1], z[1:], torch.zeros(1, 3, dtype=torch.bool), 0.07)
    assert_near(found, math.log1p(3 * math.exp(-1 / 0.07)))


def test_a_queue_of_own_images_holds_no_negative():
    z = unit(3, 4)
    assert_near(queue_contrast(z, z, unit(5, 4, seed=2), torch.ones(3, 5, dtype=torch.bool), 0.07), 0)


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"nce_t": 0.2, "feat_dim": 4}])
def test_no_image_counts_against_itself(options):
    """The second batch meets two of its own images from before: they are left out of its negatives."""
    method = make("crd_queue", *PAIR, nce_k=5, **options)
    losses_of_embeddings(method, *maps_pair((4, 5), (4, 6)), batch_of(4, index=[3, 8, 1, 6]))
    method.after_step()
    e_s, e_t = normal(3, 5, seed=5), normal(3, 6, seed=6)
    losses = losses_of_embeddings(method, e_s, e_t, batch_of(3, step=1, index=[8, 2, 3]))
    assert list(losses) == ["crd_queue"]
    same = [[False, True, False, False, False], [False] * 5, [True, False, False, False, False]]
    z_s, z_t = naive.embed(method.embed_s, *arrays(e_s)), naive.embed(method.embed_t, *arrays(e_t))
    expected = naive_queue_contrast(z_s, z_t, method.queue.vectors.numpy(), same, options.get("nce_t", 0.07))
    assert_near(losses["crd_queue"], expected)


def test_both_embeddings_are_trained():
    method = make("crd_queue", *PAIR)
    sum(losses_of_embeddings(method, *maps_pair((4, 5), (4, 6))).values()).backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in (method.embed_s, method.embed_t))


def test_the_queue():
    assert_the_queue_is_no_longer_than_the_data_set("crd_queue")
    assert_a_batch_enters_the_queue_after_its_step("crd_queue", naive_queue_contrast)
    assert_state_dict_carries_the_memory("crd_queue", nce_k=7)
    assert_a_step_without_the_loss_changes_nothing("crd_queue")


def test_odd_embeddings():
    assert_method_stays_finite(lambda: make("crd_queue", CNN, CNN), CNN, CNN)


def test_published():
    assert_published("crd_queue", Weights(1, 0, 0.8), {"feat_dim": 128, "nce_k": 16384, "nce_t": 0.07})


def test_refused_options():
    for option, value in (("feat_dim", -2), ("nce_k", 0), ("nce_t", 0.0)):
        assert_refused("crd_queue", **{option: value})
