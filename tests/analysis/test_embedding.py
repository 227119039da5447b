"""Choice of images and t-SNE."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.embedding import choose_images, project
from tests.numerics import normal

few = settings(max_examples=20)


@few
@given(st.lists(st.integers(0, 4), max_size=60), st.integers(0, 40))
def test_chosen_images_are_the_first_and_as_equally_many_of_each_class_as_there_are(labels, count):
    labels, classes = np.array(labels, dtype=np.int64), [3, 1, 0]
    chosen = choose_images(labels, classes, count)
    there = {c: list(np.flatnonzero(labels == c)) for c in classes}
    assert len(chosen) == min(count, sum(map(len, there.values())))
    assert list(chosen) == sorted(set(chosen))
    numbers = {}
    for c, members in there.items():
        mine = [i for i in chosen if labels[i] == c]
        assert mine == members[: len(mine)]
        numbers[c] = len(mine)
    for c in classes:  # a class has fewer than another only where it has no more, or by one where the count ran out
        if numbers[c] < len(there[c]):
            assert numbers[c] >= max(numbers.values()) - 1


def test_tsne_keeps_clusters_apart_and_gives_the_same_bits_again():
    labels = np.repeat(np.arange(3), 10)
    embeddings = normal(30, 8, seed=0).float().numpy() + 40 * np.eye(8, dtype=np.float32)[labels]
    points = project(embeddings)
    assert points.shape == (30, 2)
    distances = np.linalg.norm(points[:, None] - points, axis=2) + 1e9 * np.eye(30)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    np.testing.assert_array_equal(project(embeddings), points)


def test_tsne_of_embeddings_that_are_all_alike_gives_points():
    assert np.isfinite(project(np.ones((12, 4), dtype=np.float32))).all()
