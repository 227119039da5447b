"""Leading singular vectors of feature maps by orthogonal iteration, for KD-SVD.

A library's SVD has an infinite gradient where two singular values are equal (two dead channels suffice), and waits for
the device. Here v ← orth(MᵀM·v) is repeated a fixed number of times. After 16 steps the first vector is exact to
float32 for maps behind a ReLU, and directions in which a map has next to nothing fade to zero.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

STEPS = 16
EPS = 1e-6  # share of a map's energy below which a direction counts as none


def singular_vectors(f: Tensor, count: int, steps: int = STEPS) -> Tensor:
    """B×C×count leading right singular vectors of B×C×H×W maps as matrices of positions × channels.

    Unit length, but for directions without energy, which are zero; signs are arbitrary.
    """
    x = F.normalize(f.flatten(1)).view(*f.shape[:2], -1)  # B×C×P: vectors don't depend on the scale
    channels, positions = x.shape[1:]
    gram = x @ x.mT if channels <= positions else x.mT @ x
    v = _cosines(gram.shape[1], min(count, channels, positions), like=x).expand(len(x), -1, -1)
    for _ in range(steps):
        v = _orthogonal(gram @ v)
    return v if channels <= positions else F.normalize(x @ v, dim=1, eps=math.sqrt(EPS))


def _cosines(size: int, count: int, like: Tensor) -> Tensor:
    """size×count, the first waves of a cosine transform: a start that is orthogonal to nothing in particular."""
    positions = (torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) / size
    return torch.cos(math.pi * positions[:, None] * torch.arange(count, dtype=like.dtype, device=like.device))


def _orthogonal(v: Tensor) -> Tensor:
    """Columns of B×N×count matrices, orthogonal one after the other and of unit length unless they are tiny."""
    columns: list[Tensor] = []
    for column in v.unbind(dim=2):
        for done in columns:
            column = column - (column * done).sum(dim=1, keepdim=True) * done
        columns.append(F.normalize(column, eps=EPS))
    return torch.stack(columns, dim=2)
