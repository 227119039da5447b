"""STD's module: logits of its tokens by loops over its equations, how tokens start, and how they part."""

import numpy as np
import pytest
import torch

from distiller_zoo.std_module import ModuleForm, SpatialChannelModule, Tokens
from tests import naive
from tests.helpers import disturb
from tests.numerics import assert_near, normal


def naive_deltas(vector, mlp):
    """W2·GELU(W1·v), a number for each token."""
    hidden = [naive.gelu(value) for value in naive.linear(mlp.fc1, np.asarray(vector))]
    return naive.linear(mlp.fc2, np.asarray(hidden))


def naive_module(module, z, spatial, channel):
    """Logits of each head for one sample, from the P×N features of its block.

    `spatial` holds M tokens of length N, `channel` M tokens of length P.
    """
    spatial, channel = [list(t) for t in spatial], [list(t) for t in channel]
    for mlp in module.spatial:
        rows = naive.layer_norm(mlp.norm, np.array([*z, *spatial]))
        for n in range(len(z[0])):
            for token, delta in zip(spatial, naive_deltas([row[n] for row in rows], mlp), strict=True):
                token[n] += delta
    for mlp in module.channel:
        rows = naive.layer_norm(mlp.norm, np.array([[*row, *(t[i] for t in channel)] for i, row in enumerate(z)]))
        for i, row in enumerate(rows):
            for token, delta in zip(channel, naive_deltas(row, mlp), strict=True):
                token[i] += delta
    pairs = len(module.heads)
    read = [(spatial[i] if spatial else []) + (channel[i] if channel else []) for i in range(pairs)]
    if not spatial and not channel:
        read = [np.mean(z, axis=0)] * pairs
    return [naive.linear(head, np.asarray(token)) for head, token in zip(module.heads, read, strict=True)]


def patches_of(sample):
    """P×N features of one N×H×W sample."""
    return sample.flatten(1).T.tolist()


@pytest.mark.parametrize("form", [{}, {"pairs": 2}, {"layers": 2}, {"pairs": 3, "layers": 2}])
@pytest.mark.parametrize("kinds", ["both", "spatial", "channel", "none"])
@pytest.mark.parametrize(("height", "width", "channels"), [(3, 3, 4), (2, 3, 6), (1, 1, 2)])
@torch.no_grad()
def test_against_its_equations(height, width, channels, kinds, form):
    torch.manual_seed(0)
    module = SpatialChannelModule(height * width, channels, num_classes=3, form=ModuleForm(kinds, **form)).double()
    disturb(module)
    block = normal(3, channels, height, width)
    spatial = [] if module.spatial_token is None else module.spatial_token[0].tolist()
    channel = [] if module.channel_token is None else module.channel_token[0].T.tolist()
    expected = [naive_module(module, patches_of(sample), spatial, channel) for sample in block]
    found = module.classify(module(block)[1])
    assert_near(torch.stack(found, dim=1), expected)


@torch.no_grad()
def test_norms_divide_by_a_millionth_more():
    norms = [mlp.norm for part in ("spatial", "channel") for mlp in getattr(SpatialChannelModule(4, 3, 2), part)]
    assert {norm.eps for norm in norms} == {1e-6}


@torch.no_grad()
def test_it_can_start_from_the_tokens_of_another():
    torch.manual_seed(0)
    first, second = (
        SpatialChannelModule(4, 3, num_classes=2, form=ModuleForm(own_tokens=own)).double() for own in (True, False)
    )
    assert second.spatial_token is second.channel_token is None
    block = normal(1, 3, 2, 2)
    start = first(block)[0]
    assert isinstance(start, Tokens)
    expected = naive_module(second, patches_of(block[0]), start.spatial[0].tolist(), start.channel[0].T.tolist())
    assert_near(second.classify(second(block, start)[1])[0][0], expected[0])


@torch.no_grad()
def test_tokens_of_several_teachers_part():
    """Each has its own output row: the reproduction adds one and the same update to all of them."""
    torch.manual_seed(0)
    module = SpatialChannelModule(4, 3, num_classes=2, form=ModuleForm(pairs=2)).double()
    tokens, _ = module(normal(5, 3, 2, 2))
    for token, start, rows in ((tokens.spatial, module.spatial_token, 1), (tokens.channel, module.channel_token, 2)):
        update = token - start
        assert not torch.allclose(*update.unbind(rows), atol=1e-3)


@torch.no_grad()
def test_tokens_start_small_and_random():
    module = SpatialChannelModule(64, 512, 10)
    for token, shape in ((module.spatial_token, (1, 1, 512)), (module.channel_token, (1, 64, 1))):
        assert token.shape == shape
        assert 0.014 < token.std() < 0.026
