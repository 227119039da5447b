"""Checks of methods that remember embeddings of earlier batches."""

from collections.abc import Callable

import numpy as np
import torch

from distiller_zoo import Method
from tests import naive
from tests.distiller_zoo.cases import batch_of, embedding_of, losses_of_embeddings, make
from tests.numerics import assert_near, normal

PAIR = embedding_of(5), embedding_of(6)


def random_step(method: Method, size: int, step: int = 0) -> None:
    """One step on random embeddings, without an optimizer."""
    losses_of_embeddings(method, normal(size, 5, seed=2 * step), normal(size, 6, seed=2 * step + 1))
    method.after_step()


def assert_state_dict_carries_the_memory(name: str, **options) -> None:
    """Two methods with one state stay equal, whatever weights they were made with."""
    first, second = (make(name, *PAIR, seed=seed, **options) for seed in (0, 1))
    random_step(first, 4)
    second.load_state_dict(first.state_dict())
    for method in (first, second):
        random_step(method, 3, step=1)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def assert_a_step_without_the_loss_changes_nothing(name: str, **options) -> None:
    """With β = 0 nothing was computed that could be remembered."""
    method = make(name, *PAIR, **options)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    method.after_step()
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


def assert_the_queue_is_no_longer_than_the_data_set(name: str) -> None:
    """The digits have 1,297 training images."""
    assert len(make(name, *PAIR, num_samples=1297).queue.vectors) == 1297
    assert len(make(name, *PAIR, num_samples=50000).queue.vectors) == 16384
    assert len(make(name, *PAIR, num_samples=1297, nce_k=64).queue.vectors) == 64


def assert_a_batch_enters_the_queue_after_its_step(
    name: str, expected: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
) -> None:
    """Batches of 4, 4, 3 and 4 into a queue of 6: the loss sees what was there before.

    Args:
        expected: the loss, from unit embeddings of student and teacher and the rows of the queue.
    """
    method, put = make(name, *PAIR, nce_k=6, feat_dim=4), []
    initial = method.queue.vectors.clone()
    for step, size in enumerate((4, 4, 3, 4)):
        e_s, e_t = normal(size, 5, seed=step), normal(size, 6, seed=10 + step)
        batch = batch_of(size, step=step, index=torch.arange(size) + 4 * step)
        z_s, z_t = naive.embed(method.embed_s, e_s.numpy()), naive.embed(method.embed_t, e_t.numpy())
        rows = initial.numpy().copy()
        for count, row in enumerate(put):
            rows[count % 6] = row
        np.testing.assert_allclose(method.queue.vectors.numpy(), rows, rtol=1e-12)
        (loss,) = losses_of_embeddings(method, e_s, e_t, batch).values()
        assert_near(loss, expected(z_s, z_t, rows))
        loss.backward()
        np.testing.assert_allclose(method.queue.vectors.numpy(), rows, rtol=1e-12)  # not moved yet
        method.after_step()
        put += list(z_t)
