"""InfoNCE within a batch (van den Oord, Li, Vinyals, arXiv:1807.03748)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(scores: Tensor) -> Tensor:
    """Cross-entropy of B×B scores (student × teacher) with the partners on the diagonal, mean over the batch."""
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))
