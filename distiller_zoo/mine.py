"""MINE: Mutual Information Neural Estimation (Belghazi et al., ICML 2018, arXiv:1801.04062), as STD regularises by it.

The Donsker-Varadhan bound on the mutual information of a pair (a, b), with a network ψ that raises it:

    I(a; b) ≥ V = mean ψ(a_i, b_i) − log mean exp ψ(a_i, b̄_i)        b̄ drawn from the b alone

STD, Algorithm 1: of the spatial and the channel token of a sample, ψ ascends V while the vision model descends it, so
that the two tokens say different things.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = 512

Marginal = Literal["random", "shifted"]


class StatisticsNetwork(nn.Module):
    """ψ: a perceptron of three layers, 512 wide. B×D_a and B×D_b → B numbers."""

    def __init__(self, width_a: int, width_b: int, hidden: int = HIDDEN):
        super().__init__()
        self.fc1 = nn.Linear(width_a + width_b, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x = F.gelu(self.fc1(torch.cat([a, b], dim=1)))
        return self.fc3(F.gelu(self.fc2(x))).squeeze(1)


def marginal_order(samples: int, marginal: Marginal, generator: torch.Generator) -> Tensor:
    """Indices (int64, `samples` long) of the samples whose b takes the place of each sample's own.

    `random` draws with replacement, as Algorithm 1 does; `shifted` gives each sample its neighbour's, so that none
    keeps its own (of two samples or more).
    """
    if marginal == "random":
        return torch.randint(samples, (samples,), generator=generator, device=generator.device)
    return torch.arange(samples, device=generator.device).roll(1)


def information_bound(psi: nn.Module, a: Tensor, b: Tensor, order: Tensor) -> Tensor:
    """V in nats, a scalar.

    Args:
        a, b: B×D_a and B×D_b.
        order: B, of `marginal_order`.
    """
    joint, marginal = psi(a, b), psi(a, b[order])
    return joint.mean() - (marginal.logsumexp(dim=0) - math.log(len(marginal)))
