"""MINE: its bound against NumPy and against a known mutual information, and the pairs of its marginal."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from distiller_zoo.mine import StatisticsNetwork, information_bound, marginal_order
from tests import naive
from tests.numerics import normal


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("batch", "width_a", "width_b"), [(2, 1, 1), (7, 3, 5), (64, 4, 2)])
def test_bound_against_numpy(batch, width_a, width_b):
    torch.manual_seed(0)
    psi = StatisticsNetwork(width_a, width_b, hidden=6).double()
    a, b = normal(batch, width_a, seed=1), normal(batch, width_b, seed=2)
    order = torch.randperm(batch, generator=generator())

    def network(left, right):
        x = np.concatenate([left, right], axis=1)
        for layer in (psi.fc1, psi.fc2):
            x = np.vectorize(naive.gelu)(naive.linear(layer, x))
        return naive.linear(psi.fc3, x)[:, 0]

    joint, marginal = network(a.numpy(), b.numpy()), network(a.numpy(), b.numpy()[order.numpy()])
    expected = joint.mean() - (logsumexp(marginal) - math.log(batch))
    assert information_bound(psi, a, b, order).item() == pytest.approx(expected, rel=1e-10)


def test_three_layers_of_512():
    sizes = [tuple(p.shape) for p in StatisticsNetwork(128, 64).parameters() if p.ndim == 2]
    assert sizes == [(512, 192), (512, 512), (1, 512)]


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_estimates_the_information_of_correlated_gaussians(correlation):
    """I = −½·log(1 − ρ²) nats for each of two independent pairs of coordinates."""
    torch.manual_seed(0)
    psi, random = StatisticsNetwork(2, 2, hidden=32), generator()
    optimizer = torch.optim.Adam(psi.parameters(), lr=4e-3)

    def sample(count):
        a, noise = (torch.randn(count, 2, generator=random) for _ in range(2))
        return a, correlation * a + math.sqrt(1 - correlation**2) * noise

    for _ in range(300):
        loss = -information_bound(psi, *sample(512), marginal_order(512, "random", random))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = information_bound(psi, *sample(50_000), marginal_order(50_000, "shifted", random)).item()
    assert found == pytest.approx(-math.log(1 - correlation**2), abs=0.06)


def test_pairs_of_the_marginal():
    assert marginal_order(4, "shifted", generator()).tolist() == [3, 0, 1, 2]
    drawn = torch.stack([marginal_order(5, "random", generator(seed)) for seed in range(400)])
    assert drawn.min() == 0
    assert drawn.max() == 4
    shares = torch.stack([(drawn == value).float().mean(dim=0) for value in range(5)])
    assert (shares - 0.2).abs().max() < 0.08  # each place draws each sample, its own among them
