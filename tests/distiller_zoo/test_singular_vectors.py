"""Leading singular vectors by orthogonal iteration: exact for known spectra and for maps behind a ReLU."""

import pytest
import torch

from distiller_zoo.singular_vectors import singular_vectors
from models import create_model
from tests.distiller_zoo.odd_inputs import ODD_MAPS, assert_finite_for_odd_inputs
from tests.numerics import normal


def spectral(batch, channels, height, width, seed=0, dtype=torch.float64):
    """Maps whose singular values fall by a factor of 0.3, and their right singular vectors."""
    rank = min(channels, height * width)
    u = torch.linalg.qr(normal(batch, height * width, rank, seed=seed)).Q
    v = torch.linalg.qr(normal(batch, channels, rank, seed=seed + 1)).Q
    values = 5 * 0.3 ** torch.arange(rank, dtype=torch.float64)
    maps = ((u * values) @ v.mT).mT.unflatten(2, (height, width))
    return maps.to(dtype), v


@pytest.mark.parametrize("size", [(6, 4, 4), (9, 2, 2), (4, 1, 3), (1, 2, 2)])
def test_singular_vectors(size):
    maps, v = spectral(2, *size, seed=3)
    found = singular_vectors(maps, 4)
    assert found.shape == (2, size[0], min(4, v.shape[2]))
    cosines = (found * v[:, :, : found.shape[2]]).sum(dim=1).abs()
    torch.testing.assert_close(cosines, torch.ones_like(cosines), rtol=0, atol=1e-9)
    torch.testing.assert_close(singular_vectors(100 * maps, 4), found)


@pytest.mark.parametrize("model", ["resnet8", "vgg8", "ShuffleV2"])
def test_sixteen_steps_are_enough_behind_a_relu(model):
    """For the first vector, the only one taken of the teacher and as a rule the one taken of the student."""
    torch.manual_seed(0)
    with torch.no_grad():
        stages = create_model(model, 10, 32).features(torch.randn(4, 3, 32, 32)).stages
    for f in stages:
        exact = torch.linalg.svd(f.double().flatten(2).mT)[2][:, 0]
        cosines = (singular_vectors(f, 4)[:, :, 0].double() * exact).sum(dim=1).abs()
        torch.testing.assert_close(cosines, torch.ones_like(cosines), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(3, 2, 3), (5, 1, 3)], ids=["more positions", "more channels"])
def test_odd_maps(size):
    """Directions without energy are zero, and have a finite gradient."""
    f = normal(3, *size)
    assert_finite_for_odd_inputs(
        lambda s, t: (singular_vectors(s, 4) - singular_vectors(t, 4)).square(), f, f, ODD_MAPS
    )
    assert not singular_vectors(torch.zeros(2, *size), 2).any()
