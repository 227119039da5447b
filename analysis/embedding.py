"""Which images are shown as points, and where: t-SNE (van der Maaten & Hinton, JMLR 2008) by scikit-learn."""

from collections.abc import Sequence

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

PERPLEXITY = 30.0
SEED = 0
MOST_CLASSES = 10  # more colours cannot be told apart
FEWEST_IMAGES = 10


def choose_images(labels: np.ndarray, classes: Sequence[int], count: int) -> np.ndarray:
    """The first images of each of `classes`, as equally many as there are, `count` in all or all there are.

    Returns:
        int64, positions in `labels`, ascending.
    """
    members = [np.flatnonzero(labels == c) for c in classes]
    # Round by round: the first image of every class, then the second, ...
    ranked = sorted((rank, order, i) for order, found in enumerate(members) for rank, i in enumerate(found))
    return np.array(sorted(i for _, _, i in ranked[:count]), dtype=np.int64)


def project(embeddings: np.ndarray) -> np.ndarray:
    """t-SNE of M×D embeddings, M×2: perplexity 30 (for few images a third of their number), started from PCA.

    The same bits each time: the seed is fixed, and one thread computes, for sums over threads depend on their order.
    """
    perplexity = min(PERPLEXITY, (len(embeddings) - 1) / 3)
    varies = bool(np.ptp(embeddings, axis=0).any())  # principal components are scaled by their deviation
    tsne = TSNE(perplexity=perplexity, init="pca" if varies else "random", random_state=SEED)
    with threadpool_limits(1):
        return tsne.fit_transform(embeddings.astype(np.float64))
