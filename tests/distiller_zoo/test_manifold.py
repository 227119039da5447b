"""Manifold distillation: relations between patches by plain loops, gradients, known values, draws and options."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from distiller_zoo import Weights
from distiller_zoo.manifold import manifold_loss, patches
from tests import naive
from tests.distiller_zoo.cases import CNN, MLP, PAIRS, assert_published, assert_refused, batch_of, features, make
from tests.distiller_zoo.odd_inputs import assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


def naive_manifold(p_s, p_t):
    return ((naive.gram(p_s) - naive.gram(p_t)) ** 2).mean()


@every_dtype
@pytest.mark.parametrize(("rows", "width_s", "width_t"), [(1, 3, 2), (4, 3, 2), (9, 3, 2), (5, 2, 3), (6, 2, 3)])
def test_formula(rows, width_s, width_t, dtype):
    """With few rows by the cosines themselves, with more rows than channels without them."""
    p_s = F.normalize(normal(3, rows, width_s, seed=1), dim=2).to(dtype)
    p_t = F.normalize(normal(3, rows, width_t, seed=2), dim=2).to(dtype)
    expected = naive.mean([naive_manifold(a, b) for a, b in zip(*arrays(p_s, p_t), strict=True)])
    assert_near(manifold_loss(p_s, p_t), expected)
    assert_near(manifold_loss(p_s[0], p_t[0]), naive_manifold(*arrays(p_s[0], p_t[0])))


@pytest.mark.parametrize("rows", [3, 7], ids=["few rows", "many rows"])
def test_gradient(rows):
    assert_gradient(manifold_loss, normal(2, rows, 2, seed=1), normal(2, rows, 4, seed=2))


def test_sees_no_rotation_of_the_channels():
    f = normal(3, 4, 5, 5)
    rotation = torch.linalg.qr(normal(4, 4, seed=3)).Q
    rotated = torch.einsum("dc,bchw->bdhw", rotation, f)
    assert_near(manifold_loss(patches(f), patches(rotated)), 0)
    assert_near(manifold_loss(patches(f).transpose(0, 1), patches(rotated).transpose(0, 1)), 0)


def test_patches_are_rows_of_unit_length():
    f = normal(2, 3, 4, 5)
    p = patches(f)
    assert p.shape == (2, 20, 3)
    assert_near(p[1, 7], naive.unit(f[1, :, 1, 2].numpy()))


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [3, 192])
def test_losses(k):
    """Pairs of stages (1, 0), (2, 1), (3, 2); the larger map is pooled; with k = 192 all patches are drawn."""
    method = make("manifold", MLP, CNN, manifold_k=k)
    student, teacher, batch = features(MLP, 1), features(CNN, 2), batch_of()
    losses = method.losses(student, (teacher,), batch)
    generator, totals = batch.generator("manifold"), np.zeros(3)
    for i, j in [(1, 0), (2, 1), (3, 2)]:
        maps = naive.common_size(*arrays(student.stages[i], teacher.stages[j]))
        flat = [f.reshape(3, f.shape[1], -1).transpose(0, 2, 1) for f in maps]
        p_s, p_t = (f / np.sqrt((f**2).sum(axis=2, keepdims=True)) for f in flat)
        totals[0] += np.mean([naive_manifold(s, t) for s, t in zip(p_s, p_t, strict=True)])
        totals[1] += np.mean([naive_manifold(p_s[:, n], p_t[:, n]) for n in range(p_s.shape[1])])
        drawn = torch.randperm(3 * p_s.shape[1], generator=generator)[:k].numpy()
        totals[2] += naive_manifold(*(p.reshape(-1, p.shape[2])[drawn] for p in (p_s, p_t)))
    names = ("manifold_patch", "manifold_sample", "manifold_random")
    assert tuple(losses) == names
    for name, weight, total in zip(names, (4.0, 0.1, 0.2), totals, strict=True):
        assert_near(losses[name], weight * total / 3)


def test_each_step_has_its_draw():
    method = make("manifold", MLP, CNN, manifold_k=3)
    student, teacher = features(MLP, 1), features(CNN, 2)
    before = torch.get_rng_state()
    found = [method.losses(student, (teacher,), batch_of(step=step))["manifold_random"] for step in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is not asked


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("options", [{}, {"manifold_k": 2}])
def test_odd_features(pair, options):
    assert_method_stays_finite(lambda: make("manifold", *pair, **options), *pair)


def test_published():
    assert_published(
        "manifold", Weights(0, 1, 1),
        {"manifold_patch": 4.0, "manifold_sample": 0.1, "manifold_random": 0.2, "manifold_k": 192},
    )  # fmt: skip


def test_refused_options():
    assert_refused("manifold", manifold_k=1)
    for option in ("manifold_patch", "manifold_sample", "manifold_random"):
        assert_refused("manifold", **{option: -1.0})
