"""The queue of embeddings: the last ones in order, whatever the batches; what it starts from."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from distiller_zoo.queues import EmbeddingQueue
from tests.numerics import few


@few()
@given(length=st.integers(1, 9), sizes=st.lists(st.integers(1, 25), max_size=8))
def test_keeps_the_last_ones_in_order(length, sizes):
    queue, put = EmbeddingQueue(length, 2), []
    for size in sizes:
        index = torch.arange(len(put), len(put) + size)
        queue.put(torch.stack([index, -index], dim=1).float(), index)
        put += index.tolist()
        order = (queue.oldest + torch.arange(length)) % length  # from the oldest on
        expected = [-1] * max(length - len(put), 0) + put[-length:]
        assert queue.index[order].tolist() == expected
        filled = queue.index >= 0
        assert torch.equal(queue.vectors[filled, 0], queue.index[filled].float())
        assert torch.equal(queue.vectors[filled, 1], -queue.index[filled].float())


def test_starts_from_unit_vectors_of_no_image():
    queue = EmbeddingQueue(300, 128)
    np.testing.assert_allclose(queue.vectors.norm(dim=1).numpy(), 1, rtol=1e-6)
    assert (queue.index == -1).all()
    assert queue.oldest == 0


def test_all_of_it_is_saved():
    assert set(EmbeddingQueue(3, 2).state_dict()) == {"vectors", "index", "oldest"}
