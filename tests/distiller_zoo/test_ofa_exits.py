"""OFA's exits layer by layer: of CNNs by convolutions, of MLPs by merged patches and attention."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from distiller_zoo.ofa_exits import AttentionBlock, PatchMerging, SeparableConvolutions, TokenExit
from tests import naive
from tests.distiller_zoo.cases import CNN, MLP, WIDE, features, make
from tests.numerics import arrays, assert_near, normal


def test_exits_of_a_cnn_halve_the_map_once_for_each_stage_to_come():
    method = make("ofa", CNN, WIDE)
    convolutions = [[m for m in leave if isinstance(m, SeparableConvolutions)] for leave in method.exits]
    assert [len(found) for found in convolutions] == [2, 1, 0]
    widths = [[m[-3].out_channels for m in found] for found in convolutions]
    assert widths == [[6, 7], [7], []]  # doubled, then the wider of both embeddings
    assert [leave[-1].in_features for leave in method.exits] == [7, 7, 7]
    f = features(CNN, batch=2).stages
    assert [leave[:-3](x).shape[2:] for leave, x in zip(method.exits, f, strict=True)] == [(2, 2)] * 3
    assert all(leave(x).shape == (2, 5) for leave, x in zip(method.exits, f, strict=True))


def test_exits_of_an_mlp_have_attention():
    method = make("ofa", MLP, CNN)
    assert [len(leave.blocks) for leave in method.exits] == [3, 2, 1, 1]
    assert all(len(leave.merge) == 0 for leave in method.exits)


def test_exit_of_a_cnn_by_loops():
    """Two halvings; each normalises over the batch, with scale 1 and shift 0 as at the start."""
    leave = make("ofa", CNN, WIDE).exits[0]
    f = features(CNN, batch=2).stages[0]

    def by_channel(x, weight, stride):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out = np.zeros((*x.shape[:2], x.shape[2] // stride, x.shape[3] // stride))
        for b, c, i, j in np.ndindex(out.shape):
            window = padded[b, c, i * stride : i * stride + 3, j * stride : j * stride + 3]
            out[b, c, i, j] = (window * weight[c, 0]).sum()
        return out

    def joined(x, weight):
        x = np.einsum("bchw,dc->bdhw", x, weight[:, :, 0, 0])
        mean, variance = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
        return np.maximum((x - mean) / np.sqrt(variance + 1e-5), 0)

    x = f.numpy()
    for separable in leave[:2]:
        spatial, mixing, spatial_2, mixing_2 = arrays(*(p for p in separable.parameters() if p.ndim == 4))
        x = joined(by_channel(x, spatial, 2), mixing)
        x = joined(by_channel(x, spatial_2, 1), mixing_2)
    assert_near(leave(f), naive.linear(leave[-1], x.mean(axis=(2, 3))))


@pytest.mark.parametrize(("grid", "merges"), [(4, 0), (7, 0), (8, 0), (13, 0), (14, 1), (16, 1), (28, 2), (56, 3)])
def test_patches_are_merged_while_seven_by_seven_remain(grid, merges):
    leave = TokenExit((8, grid, grid), 2, 5)
    assert len(leave.merge) == merges
    kinds = {0: [], 1: [nn.GELU], 2: [nn.GELU, nn.Identity], 3: [nn.GELU, nn.GELU, nn.Identity]}
    assert [type(merge.activation) for merge in leave.merge] == kinds[merges]
    assert leave.merge(torch.zeros(1, 8, grid, grid)).shape == (1, 8, grid >> merges, grid >> merges)
    assert leave(torch.zeros(2, 8, grid, grid)).shape == (2, 5)


def test_neighbours_are_merged():
    merge = PatchMerging(3, nn.GELU()).double()
    x = normal(1, 3, 6, 4).requires_grad_()
    out = merge(x)
    assert out.shape == (1, 3, 3, 2)
    (gradient,) = torch.autograd.grad(out[0, :, 2, 1].square().sum(), x)
    touched = gradient[0].abs().sum(dim=0) > 0
    assert touched.nonzero().tolist() == [[4, 2], [4, 3], [5, 2], [5, 3]]


@pytest.mark.parametrize(("width", "heads"), [(8, 4), (6, 2), (5, 1)])
def test_attention_by_loops(width, heads):
    torch.manual_seed(0)
    block = AttentionBlock(width).double()
    assert block.heads == heads
    for norm in (block.norm1, block.norm2):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x, expected, size = normal(2, 5, width), [], width // heads
    for rows in x.numpy():
        q, k, v = np.split(naive.linear(block.qkv, naive.layer_norm(block.norm1, rows)), 3, axis=1)
        mixed = np.zeros_like(rows)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for i in range(len(rows)):
                weights = naive.softmax([(q[i, part] * k[j, part]).sum() / math.sqrt(size) for j in range(len(rows))])
                mixed[i, part] = sum(w * v[j, part] for j, w in enumerate(weights))
        rows = rows + naive.linear(block.mix, mixed)
        hidden = naive.linear(block.mlp[0], naive.layer_norm(block.norm2, rows))
        expected.append(rows + naive.linear(block.mlp[2], np.vectorize(naive.gelu)(hidden)))
    assert_near(block(x), expected)


def test_exits_start_small():
    for leave in make("ofa", MLP, CNN).exits:
        assert leave.head.weight.abs().max() < 0.1
        assert (leave.head.bias == 0).all()
