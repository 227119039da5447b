"""t-SNE of embeddings (van der Maaten & Hinton, JMLR 2008), and the choice of images that it shows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

PERPLEXITY = 30.0
SEED = 0
MOST_CLASSES = 10  # more colours could not be distinguished
FEWEST_IMAGES = 10


@dataclass(frozen=True)
class ShownImages:
    """The test images of a t-SNE picture.

    Attributes:
        positions: int64 M, positions in the test set, ascending.
        labels: int64 M, their classes.
        classes: the classes that were asked for.
        num_classes: number of classes of the data set.
        texts: one for each of `classes`; empty for their numbers.
    """

    positions: np.ndarray
    labels: np.ndarray
    classes: Sequence[int]
    num_classes: int
    texts: Sequence[str] = ()


def choose_images(labels: np.ndarray, classes: Sequence[int], count: int) -> np.ndarray:
    """Choose the first images of each of `classes`, `count` in total, as balanced as the classes allow.

    Returns:
        int64, positions in `labels`, ascending.
    """
    members = [np.flatnonzero(labels == c) for c in classes]
    # Round by round: the first image of every class, then the second, ...
    ranked = sorted((rank, order, i) for order, found in enumerate(members) for rank, i in enumerate(found))
    return np.array(sorted(i for _, _, i in ranked[:count]), dtype=np.int64)


def project(embeddings: np.ndarray) -> np.ndarray:
    """t-SNE of M×D embeddings as points M×2.

    Perplexity is 30, or (M − 1)/3 for few images; the start is PCA. The result is reproducible bit for bit: the seed
    is fixed, and one thread computes, because sums over threads depend on their order.
    """
    perplexity = min(PERPLEXITY, (len(embeddings) - 1) / 3)
    varies = bool(np.ptp(embeddings, axis=0).any())  # principal components are scaled by their deviation
    from sklearn.manifold import TSNE  # its import takes seconds, and a wrong command line is refused before

    tsne = TSNE(perplexity=perplexity, init="pca" if varies else "random", random_state=SEED)
    with threadpool_limits(1):
        return tsne.fit_transform(embeddings.astype(np.float64))
