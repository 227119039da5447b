"""RRD: the relational loss by plain loops, its gradient, known values, both memories over steps, and options."""

import math

import numpy as np
import pytest
import torch

from distiller_zoo import Weights
from distiller_zoo.rrd import relational_loss
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

E_S, E_T = maps_pair((4, 5), (4, 6))


def naive_relational(z_s, z_t, memory, student_t, teacher_t):
    total = []
    for row_s, row_t in zip(z_s, z_t, strict=True):
        log_s = naive.log_softmax([(row_s * m).sum() for m in memory], student_t)
        p_t = naive.softmax([(row_t * m).sum() for m in memory], teacher_t)
        total.append(-sum(t * s for s, t in zip(log_s, p_t, strict=True)))
    return naive.mean(total)


@every_dtype
@pytest.mark.parametrize(("batch", "width", "memory"), [(1, 3, 1), (4, 5, 9), (7, 2, 30)])
@pytest.mark.parametrize("temperatures", [(0.1, 0.02), (0.04, 0.1)])
def test_formula(batch, width, memory, temperatures, dtype):
    z = unit(batch, width, seed=1, dtype=dtype), unit(batch, width, seed=2, dtype=dtype)
    rows = unit(memory, width, seed=3, dtype=dtype)
    assert_near(relational_loss(*z, rows, *temperatures), naive_relational(*arrays(*z, rows), *temperatures))


def test_gradient():
    memory = unit(6, 4, seed=9)
    assert_gradient(lambda s, t: relational_loss(s, t, memory, 0.1, 0.3), *maps_pair((3, 4), (3, 4)))


def test_ends_at_the_teachers_entropy():
    z, memory = unit(4, 5, seed=1), unit(9, 5, seed=2)
    p = (z @ memory.T / 0.1).softmax(dim=1)
    assert_near(relational_loss(z, z, memory, 0.1, 0.1), -(p * p.log()).sum(dim=1).mean().item())
    other = relational_loss(unit(4, 5, seed=3), z, memory, 0.1, 0.1)
    assert other > relational_loss(z, z, memory, 0.1, 0.1)


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "temperatures"), [({}, (0.04, 0.1)), ({"nce_t_s": 0.2, "nce_t_t": 0.5}, (0.2, 0.5))]
)
def test_losses(options, temperatures):
    method = make("rrd", *PAIR, nce_k=8, **options)
    z_s, z_t = naive.embed(method.embed_s, *arrays(E_S)), naive.embed(method.embed_t, *arrays(E_T))
    losses = losses_of_embeddings(method, E_S, E_T)
    assert list(losses) == ["rrd"]
    assert_near(losses["rrd"], naive_relational(z_s, z_t, method.queue.vectors.numpy(), *temperatures))


def test_the_teacher_is_projected_at_random_for_good():
    method = make("rrd", *PAIR)
    assert not any(p.requires_grad for p in method.embed_t.parameters())
    sum(losses_of_embeddings(method, E_S, E_T).values()).backward()
    assert all(p.grad is not None for p in method.embed_s.parameters())
    assert all(p.grad is None for p in method.embed_t.parameters())


def test_the_queue():
    assert_the_queue_is_no_longer_than_the_data_set("rrd")
    assert_a_batch_enters_the_queue_after_its_step("rrd", lambda *rows: naive_relational(*rows, 0.04, 0.1))
    assert_state_dict_carries_the_memory("rrd", nce_k=7)
    assert_a_step_without_the_loss_changes_nothing("rrd")


def test_a_memory_of_all_images():
    method = make("rrd", *PAIR, num_samples=9, memory_type="momentum", nce_m=0.25, feat_dim=4)
    assert method.queue is None
    bank = method.bank.numpy().copy()
    np.testing.assert_allclose(np.linalg.norm(bank, axis=1), 1, rtol=1e-6)
    for step in range(3):
        index = torch.randperm(9, generator=torch.Generator().manual_seed(step))[:4]
        e_s, e_t = normal(4, 5, seed=step), normal(4, 6, seed=10 + step)
        z_s, z_t = naive.embed(method.embed_s, *arrays(e_s)), naive.embed(method.embed_t, *arrays(e_t))
        (loss,) = losses_of_embeddings(method, e_s, e_t, batch_of(4, step=step, index=index)).values()
        assert_near(loss, naive_relational(z_s, z_t, bank, 0.04, 0.1))
        loss.backward()
        np.testing.assert_allclose(method.bank.numpy(), bank, rtol=1e-12)
        method.after_step()
        for i, row in zip(index, z_t, strict=True):
            moved = 0.25 * bank[i] + 0.75 * row
            bank[i] = moved / math.sqrt((moved**2).sum())
        np.testing.assert_allclose(method.bank.numpy(), bank, rtol=1e-12)
    assert_state_dict_carries_the_memory("rrd", memory_type="momentum")


@pytest.mark.parametrize("memory_type", ["fifo", "momentum"])
def test_odd_embeddings(memory_type):
    assert_method_stays_finite(lambda: make("rrd", CNN, CNN, memory_type=memory_type), CNN, CNN)


def test_published():
    assert_published(
        "rrd", Weights(1, 0, 1),
        {"feat_dim": 128, "nce_k": 16384, "nce_t_s": 0.04, "nce_t_t": 0.1, "memory_type": "fifo", "nce_m": 0.5},
    )  # fmt: skip


def test_refused_options():
    for option, value in (("feat_dim", 0), ("nce_k", 0), ("nce_t_s", 0.0), ("nce_t_t", -1.0), ("nce_m", 1.0)):
        assert_refused("rrd", **{option: value})
