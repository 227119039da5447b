"""A queue of the latest embeddings, for methods that compare a batch with many earlier ones (as MoCo does)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EmbeddingQueue(nn.Module):
    """The last `length` unit vectors that were put in, and of which training image each is.

    It starts full of random directions that belong to no image. All of it is buffers: it is saved with the run.
    """

    def __init__(self, length: int, dim: int):
        super().__init__()
        self.register_buffer("vectors", F.normalize(torch.randn(length, dim)))
        self.register_buffer("index", torch.full((length,), -1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))  # the row that is overwritten next

    @torch.no_grad()
    def put(self, vectors: Tensor, index: Tensor) -> None:
        """Overwrite the oldest rows by B×D vectors of the images `index` (B), for any B.

        Of a batch longer than the queue the last rows stay, as if they had been put in one by one.
        """
        length, batch = len(self.vectors), len(vectors)
        stays = min(batch, length)
        place = (self.oldest + torch.arange(batch - stays, batch, device=vectors.device)) % length
        self.vectors.index_copy_(0, place, vectors[-stays:])
        self.index.index_copy_(0, place, index[-stays:])
        self.oldest.copy_((self.oldest + batch) % length)
