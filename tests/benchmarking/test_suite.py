"""The suite's side of a measurement."""

import itertools

import numpy as np

from benchmarking.suite import endless_batches
from dataset import Augmentation, Batching, BatchStream
from tests.helpers import DIGITS


def test_the_suites_batches_go_round():
    stream = BatchStream(
        np.zeros((20, 8, 8, 3), np.uint8), np.zeros(20, np.int64), DIGITS, Batching(Augmentation(), 8, 1, True), "cpu"
    )
    steps = [(batch.epoch, batch.step) for batch in itertools.islice(endless_batches(stream), 5)]
    assert steps == [(1, 0), (1, 1), (1, 0), (1, 1), (1, 0)]
