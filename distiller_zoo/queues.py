"""A queue of the latest embeddings, for methods that compare a batch with many earlier ones (as MoCo does)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EmbeddingQueue(nn.Module):
    """The last `length` unit vectors that were put in, and the training image of each.

    It starts full of random directions that belong to no image. All of it is buffers: it is saved with the run.

    Attributes:
        vectors: length×dim, of length 1.
        index: int64, position of each vector's image in the training set; −1 for none.
        oldest: the row that is overwritten next.
    """

    vectors: Tensor
    index: Tensor
    oldest: Tensor

    def __init__(self, length: int, dim: int):
        super().__init__()
        self.register_buffer("vectors", F.normalize(torch.randn(length, dim)))
        self.register_buffer("index", torch.full((length,), -1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def put(self, vectors: Tensor, index: Tensor) -> None:
        """Overwrite the oldest rows by B×D vectors of the images `index` (B), for any B.

        Of a batch longer than the queue the last rows are kept, as if they had been put in one by one.
        """
        length, batch = len(self.vectors), len(vectors)
        kept = min(batch, length)
        place = (self.oldest + torch.arange(batch - kept, batch, device=vectors.device)) % length
        self.vectors.index_copy_(0, place, vectors[-kept:])
        self.index.index_copy_(0, place, index[-kept:])
        self.oldest.copy_((self.oldest + batch) % length)
