"""The digits: real, fixed for good, and with the statistics that the entry states."""

import hashlib

import numpy as np

from dataset import DATASETS, load_arrays
from dataset.digits import spread_evenly


def test_shapes_and_statistics(tmp_path):
    arrays, entry = load_arrays("digits", tmp_path), DATASETS["digits"]
    assert arrays.train_images.shape == (entry.train_size, 8, 8, 3)
    assert arrays.test_images.shape == (entry.test_size, 8, 8, 3)
    pixels = arrays.train_images.reshape(-1, 3) / 255
    np.testing.assert_allclose(pixels.mean(0), entry.mean, atol=5e-5)
    np.testing.assert_allclose(pixels.std(0), entry.std, atol=5e-5)
    assert arrays.train_images.max() == 255
    assert not list(tmp_path.iterdir())


def test_split_is_the_one_that_results_are_measured_on():
    arrays = load_arrays("digits", ".")
    digests = [hashlib.sha256(array.tobytes()).hexdigest()[:16] for array in arrays]
    assert digests == ["c14ba45be3606358", "b3ade830f8bd860e", "32413c6b14f199b1", "a7bb750ab1f3f86b"]


def test_split_is_stratified():
    arrays = load_arrays("digits", ".")
    train, test = np.bincount(arrays.train_labels), np.bincount(arrays.test_labels)
    share = (train + test) * 500 / 1797
    assert (np.abs(test - share) < 1).all()


def test_spread_evenly_on_a_small_case():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    held_out = spread_evenly(labels, 5)
    assert np.flatnonzero(held_out).tolist() == [1, 3, 5, 7, 9]
