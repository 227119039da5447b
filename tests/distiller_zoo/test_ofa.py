"""OFA: the enhanced target by plain loops, its gradient, known values, its exits layer by layer, and options."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from distiller_zoo import Weights
from distiller_zoo.ofa import ofa_loss, target_of_code, target_of_paper
from distiller_zoo.ofa_exits import AttentionBlock, PatchMerging, SeparableConvolutions, TokenExit
from tests import naive
from tests.distiller_zoo.cases import (
    CNN,
    MLP,
    PAIRS,
    WIDE,
    assert_published,
    assert_refused,
    batch_of,
    features,
    labels_for,
    logits_pair,
    make,
    mixed_targets,
)
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_logits, assert_method_stays_finite, without
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal

LABELS = torch.tensor([0, 3, 2])
FORMS = {"code": False, "paper": True}


TARGET = {False: target_of_code, True: target_of_paper}


def naive_ofa(logits_s, logits_t, labels, gamma=1.0, temperature=1.0, as_in_paper=False):
    total = []
    for row_s, row_t, label in zip(logits_s, logits_t, labels.tolist(), strict=True):
        log_s, p_t = naive.log_softmax(row_s, temperature), naive.softmax(row_t, temperature)
        for c, (log, p) in enumerate(zip(log_s, p_t, strict=True)):
            if as_in_paper:
                weight = (1 + p) ** gamma if c == label else p
            else:
                weight = (1 + p) ** gamma - 1 if c == label else p**gamma
            total.append(-weight * log)
    return math.fsum(total) / len(logits_s)


@every_dtype
@pytest.mark.parametrize("as_in_paper", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("gamma", "temperature"), [(1.0, 1.0), (1.5, 1.0), (0.7, 4.0)])
@pytest.mark.parametrize("shape", [(1, 2), (5, 7)])
def test_formula(shape, gamma, temperature, as_in_paper, dtype):
    logits, labels = logits_pair(shape, dtype), labels_for(shape)
    expected = naive_ofa(*arrays(*logits), labels, gamma, temperature, as_in_paper)
    assert_near(ofa_loss(*logits, labels, gamma, temperature, TARGET[as_in_paper]), expected)


@pytest.mark.parametrize("as_in_paper", FORMS.values(), ids=FORMS)
def test_gradient_and_odd_logits(as_in_paper):
    s, t = logits_pair()
    assert_gradient(lambda s: ofa_loss(s, t, LABELS, 1.4, 2.0, TARGET[as_in_paper]), s)
    for gamma in (1.0, 1.5):
        assert_finite_for_odd_logits(lambda s, t: ofa_loss(s, t, LABELS, gamma, 1.0, TARGET[as_in_paper]))  # noqa: B023


def test_gamma_of_one_asks_for_no_label():
    logits_s, logits_t = normal(4, 5, seed=1), normal(4, 5, seed=2)
    cross_entropy = -(logits_t.softmax(dim=1) * logits_s.log_softmax(dim=1)).sum(dim=1).mean()
    for labels in (torch.zeros(4, dtype=torch.int64), torch.arange(4)):
        assert_near(ofa_loss(logits_s, logits_t, labels, 1.0, 1.0), cross_entropy.item())
        with_labels = cross_entropy + F.cross_entropy(logits_s, labels)
        assert_near(ofa_loss(logits_s, logits_t, labels, 1.0, 1.0, target=target_of_paper), with_labels.item())


def test_a_label_counts_more_where_the_teacher_trusts_it():
    """γ = 2 and two classes, p_t = ½: the label counts (3/2)² − 1 = 5/4, the other class 1/4."""
    logits = torch.zeros(1, 2, dtype=torch.float64)
    student = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)  # ¾ and ¼
    expected = -(5 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    assert_near(ofa_loss(student, logits, torch.tensor([0]), 2.0, 1.0), expected)
    expected = -(9 / 4 * math.log(3 / 4) + 1 / 2 * math.log(1 / 4))
    assert_near(ofa_loss(student, logits, torch.tensor([0]), 2.0, 1.0, target=target_of_paper), expected)


# --- exits ----------------------------------------------------------------------------------------


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


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_losses(form):
    method = make("ofa", MLP, CNN, ofa_weight=0.3, ofa_gamma=1.5, ofa_temperature=2.0, ofa_form=form)
    student, teacher, batch = features(MLP, 1), features(CNN, 2), batch_of()
    settings = (batch.labels, 1.5, 2.0, FORMS[form])
    losses = method.losses(student, (teacher,), batch)
    assert list(losses) == ["ofa_logits", "ofa_exits"]
    assert_near(losses["ofa_logits"], naive_ofa(*arrays(student.logits, teacher.logits), *settings))
    exits = [leave(f) for leave, f in zip(method.exits, student.stages, strict=True)]
    expected = sum(naive_ofa(*arrays(logits, teacher.logits), *settings) for logits in exits)
    assert_near(losses["ofa_exits"], 0.3 * expected)


def test_exits_are_standardised_like_the_teacher():
    method = make("ofa", MLP, CNN, ofa_weight=0.3, ofa_gamma=1.5)
    method.logit_standardization = True
    student, teacher, batch = features(MLP, 1), features(CNN, 2), batch_of()
    losses = method.own_losses(student, (teacher,), batch)

    def expected(logits):
        return naive_ofa(*map(naive.z_scored, arrays(logits, teacher.logits)), batch.labels, 1.5)

    assert_near(losses["ofa_logits"], expected(student.logits))
    exits = [leave(f) for leave, f in zip(method.exits, student.stages, strict=True)]
    assert_near(losses["ofa_exits"], 0.3 * sum(map(expected, exits)))


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_label_of_a_mixed_image_is_that_of_its_larger_part(share):
    method, student, teacher = make("ofa", MLP, CNN, ofa_gamma=1.5), features(MLP, 1), features(CNN, 2)
    others = (LABELS + 1) % 5
    batch = batch_of(targets=mixed_targets(LABELS, others, share))
    found = method.losses(student, (teacher,), batch)["ofa_logits"]
    main = LABELS if share > 0.5 else others
    assert_near(found, naive_ofa(*arrays(student.logits, teacher.logits), main, 1.5))


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("options", [{}, {"ofa_form": "paper", "ofa_gamma": 1.5}])
def test_odd_features(pair, options):
    kinds = without("a batch of one")  # batch norm needs two
    assert_method_stays_finite(lambda: make("ofa", *pair, **options), *pair, kinds)


def test_published():
    options = {"ofa_gamma": 1.0, "ofa_temperature": 1.0, "ofa_weight": 0.1, "ofa_form": "code"}
    assert_published("ofa", Weights(1, 0, 1), options)


def test_refused_options():
    for option, value in (("ofa_gamma", 0.0), ("ofa_temperature", -1.0), ("ofa_weight", 0.0)):
        assert_refused("ofa", **{option: value})
