"""Batch normalisation over the pieces of several processes against nn.BatchNorm on the whole batch.

Each `check_…` runs on every rank.
"""

from copy import deepcopy

import pytest
import torch
from torch import nn

from engine.device.sync_batchnorm import SyncBatchNorm, synchronise_batch_norm
from engine.device.world import SINGLE_PROCESS
from tests.engine.device.ranks import TOLERANCE, run, sizes

SHAPES = [(8, 3), (7, 3, 5), (7, 3, 4, 2), (2, 3, 2, 2), (1, 3, 2, 2)]  # the last two leave ranks without a row
OPTIONS = [{}, {"momentum": None}, {"momentum": 0.3, "eps": 0.1}, {"affine": False}, {"track_running_stats": False}]


def normalise_everywhere(world, options, shape, dtype):
    """The same by nn.BatchNorm on the whole batch and by ours on pieces of it: training, then evaluation."""
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.manual_seed(0)
    plain = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(shape[1], **options).to(dtype)
    for p in plain.parameters():
        nn.init.normal_(p)
    ours = synchronise_batch_norm(nn.Sequential(deepcopy(plain)), world)[0]
    assert isinstance(ours, SyncBatchNorm)
    for _ in range(3):  # running statistics move on
        whole = (3 * torch.randn(shape, dtype=dtype) + 2).requires_grad_()
        if len(shape) == 4:
            whole = whole.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        weights = torch.randn(shape, dtype=dtype)
        expected = plain(whole)
        (expected * weights).sum().backward()
        gradient, whole.grad = whole.grad, None
        piece = ours(world.shard(whole))
        assert piece.is_contiguous(memory_format=torch.channels_last) or len(shape) != 4
        torch.testing.assert_close(piece, world.shard(expected), **close)
        (world.gather(piece, shape[0]) * weights).sum().backward()
        torch.testing.assert_close(world.shard(whole.grad) / world.size, world.shard(gradient), **close)
    world.average_gradients(ours.parameters())
    for mine, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, **close)
    state = ours.state_dict()
    assert list(state) == list(plain.state_dict())
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(state[name], value, **close)
    ours.load_state_dict(plain.state_dict())
    if world.is_main:  # in evaluation nobody waits for the others
        assert torch.equal(ours.eval()(whole), plain.eval()(whole))


def check_batch_norm(world, dtype):
    for options in OPTIONS:
        for shape in SHAPES:
            normalise_everywhere(world, options, shape, dtype)


@pytest.mark.runs
@sizes
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=["float64", "float32"])
def test_batch_norm(size, dtype):
    run(size, check_batch_norm, dtype)


def check_batch_norm_corners(world):
    torch.manual_seed(0)
    # Far from zero the difference of two sums of float32 would leave nothing of the variance.
    whole = 1000 + torch.randn(9, 2, 4, 4)
    exact = nn.BatchNorm2d(2).double()(whole.double())
    ours = synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(2)), world)[0]
    torch.testing.assert_close(ours(world.shard(whole)).double(), world.shard(exact), rtol=0, atol=1e-3)
    # Under autocast: bf16 in and out, statistics and parameters in float32.
    low = torch.randn(9, 2, 4, 4).bfloat16().requires_grad_()
    plain, ours = nn.BatchNorm2d(2), synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(2)), world)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, piece = plain(low), ours(world.shard(low))
    assert piece.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(piece, world.shard(expected))
    torch.testing.assert_close(ours.running_var, plain.running_var)
    expected.float().pow(3).sum().backward()
    gradient, low.grad = low.grad, None
    world.gather(piece.float(), 9).pow(3).sum().backward()
    torch.testing.assert_close(world.shard(low.grad) / world.size, world.shard(gradient), rtol=0.02, atol=0.02)
    # One value for each channel, though no rank but one can see it.
    with pytest.raises(ValueError, match="batch"):
        ours(world.shard(torch.randn(1, 2, 1, 1)))
    # A layer in two places stays one layer, and none is left out.
    shared = nn.BatchNorm1d(3)
    nested = synchronise_batch_norm(
        nn.Sequential(shared, nn.ModuleDict({"again": shared, "own": nn.BatchNorm2d(3)})), world
    )
    assert nested[0] is nested[1]["again"]
    assert nested[0].weight is shared.weight
    assert all(isinstance(norm, SyncBatchNorm) for norm in (nested[0], nested[1]["own"]))


@pytest.mark.runs
@sizes
def test_batch_norm_corners(size):
    run(size, check_batch_norm_corners)


def test_a_single_process_keeps_its_layers():
    norm = nn.BatchNorm2d(3)
    assert synchronise_batch_norm(nn.Sequential(norm), SINGLE_PROCESS)[0] is norm
