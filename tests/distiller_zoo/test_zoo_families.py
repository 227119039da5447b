"""Methods on features that meet any two families: ofa, projector_ensemble, token_bridge, ickd, mgd, vkd, manifold.

Each loss against its formula by plain loops in NumPy, its gradient, what is known of its value, and its modules.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.errors import RequestError
from dataset import Batch
from distiller_zoo import METHODS, Pair, create_method, options_of
from distiller_zoo.ickd import channel_correlation_loss
from distiller_zoo.manifold import manifold_loss, patches
from distiller_zoo.mgd import generation_loss
from distiller_zoo.ofa import AttentionBlock, PatchMerging, SeparableConvolutions, TokenExit, ofa_loss
from distiller_zoo.projector_ensemble import direction_loss
from distiller_zoo.token_bridge import bridge_loss, to_size
from distiller_zoo.vkd import OrthogonalProjection, normalised_loss
from models import Features, FeatureShapes
from tests.numerics import arrays, assert_near, every_dtype, normal

WEIGHTS = {
    "ofa": (1, 0, 1),
    "projector_ensemble": (1, 0, 25),
    "token_bridge": (1, 0, 1),
    "ickd": (1, 0, 2.5),
    "mgd": (1, 0, 0.0012),
    "vkd": (1, 1, 1),
    "manifold": (0, 1, 1),
}
OPTIONS = {
    "ofa": {"ofa_gamma": 1.0, "ofa_temperature": 1.0, "ofa_weight": 0.1, "ofa_form": "code"},
    "projector_ensemble": {"pefd_projectors": 3, "pefd_relu": True},
    "token_bridge": {"bridge_distance": "cosine"},
    "ickd": {},
    "mgd": {"mgd_ratio": 0.15, "mgd_mask": "channel"},
    "vkd": {},
    "manifold": {"manifold_patch": 4.0, "manifold_sample": 0.1, "manifold_random": 0.2, "manifold_k": 192},
}
NAMES = tuple(WEIGHTS)
every_name = pytest.mark.parametrize("name", NAMES)


CNN = FeatureShapes(4, 6, (3, 8, 8), ((3, 8, 8), (4, 4, 4), (6, 2, 2)), ())
WIDE = FeatureShapes(4, 7, (3, 8, 8), ((5, 8, 8), (6, 8, 8), (7, 4, 4), (7, 4, 4)), ())
MLP = FeatureShapes(4, 8, (8, 4, 4), ((8, 4, 4),) * 4, (), ((8, 4, 4),) * 4)
PAIRS = {"CNN to CNN": (CNN, WIDE), "wide to CNN": (WIDE, CNN), "MLP from CNN": (MLP, CNN), "CNN from MLP": (CNN, MLP),
         "alike": (CNN, CNN)}  # fmt: skip
every_pair = pytest.mark.parametrize("pair", PAIRS)


def make(name, student=CNN, teacher=WIDE, seed=0, **options):
    torch.manual_seed(seed)
    return create_method(name, Pair(student, (teacher,), 50), options).double()


def make_features(shapes, batch, seed=0, dtype=torch.float64):
    maps = tuple(normal(batch, *shape, seed=seed + i, dtype=dtype) for i, shape in enumerate(shapes.stages))
    embedding = normal(batch, shapes.embedding, seed=seed + 10, dtype=dtype)
    return Features(normal(batch, shapes.num_classes, seed=seed + 11, dtype=dtype), embedding, None, maps)


def make_batch(size, step=0):
    return Batch(torch.zeros(size, 3, 1, 1), torch.arange(size) % 4, torch.arange(size), None, 1, step, 7)


# --- the formulas ---------------------------------------------------------------------------------


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def naive_ofa(logits_s, logits_t, labels, gamma, temperature, as_in_paper):
    total = 0.0
    for row_s, row_t, label in zip(logits_s / temperature, logits_t / temperature, labels, strict=True):
        for c, (p_s, p_t) in enumerate(zip(softmax(row_s), softmax(row_t), strict=True)):
            if as_in_paper:
                weight = (1 + p_t) ** gamma if c == label else p_t
            else:
                weight = (1 + p_t) ** gamma - 1 if c == label else p_t**gamma
            total -= weight * math.log(p_s)
    return total / len(logits_s)


def naive_cosine(a, b):
    return (a * b).sum() / math.sqrt((a**2).sum()) / math.sqrt((b**2).sum())


def naive_channels(f_s, f_t):
    total = 0.0
    for sample_s, sample_t in zip(f_s, f_t, strict=True):
        rows = []
        for sample in (sample_s, sample_t):
            gram = np.array([[(a * b).sum() for b in sample] for a in sample])
            rows.append([row / (math.sqrt((row**2).sum()) or 1) for row in gram])
        total += sum(((s - t) ** 2).sum() for s, t in zip(*rows, strict=True)) / len(sample_s)
    return total / len(f_s)


def naive_manifold(p_s, p_t):
    cosines = [np.array([[(a * b).sum() for b in rows] for a in rows]) for rows in (p_s, p_t)]
    return ((cosines[0] - cosines[1]) ** 2).mean()


def naive_smooth_l1(projected, e_t):
    total = 0.0
    for row_s, row_t in zip(projected, e_t, strict=True):
        mean = sum(row_t) / len(row_t)
        variance = sum((value - mean) ** 2 for value in row_t) / len(row_t)
        for s, t in zip(row_s, row_t, strict=True):
            d = abs(s - (t - mean) / math.sqrt(variance + 1e-5))
            total += d**2 / 2 if d < 1 else d - 0.5
    return total / projected.size


# --- values ---------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("as_in_paper", [False, True])
@pytest.mark.parametrize(("gamma", "temperature"), [(1.0, 1.0), (1.5, 1.0), (0.7, 4.0)])
@pytest.mark.parametrize(("batch", "classes"), [(1, 2), (5, 7)])
def test_ofa_loss(batch, classes, gamma, temperature, as_in_paper, dtype):
    logits = 3 * normal(batch, classes, seed=1, dtype=dtype), 3 * normal(batch, classes, seed=2, dtype=dtype)
    labels = torch.arange(batch) % classes
    expected = naive_ofa(*arrays(*logits), labels.tolist(), gamma, temperature, as_in_paper)
    assert_near(ofa_loss(*logits, labels, gamma, temperature, as_in_paper), expected)


@every_dtype
def test_direction_loss(dtype):
    e = normal(5, 4, seed=1, dtype=dtype), normal(5, 4, seed=2, dtype=dtype)
    expected = sum(1 - naive_cosine(a, b) for a, b in zip(*arrays(*e), strict=True)) / 5
    assert_near(direction_loss(*e), expected)


@every_dtype
@pytest.mark.parametrize(("channels", "height_s", "height_t"), [(1, 1, 1), (5, 2, 3), (3, 4, 2), (6, 1, 4)])
def test_channel_correlations(channels, height_s, height_t, dtype):
    f_s = normal(3, channels, height_s, height_s + 1, seed=1, dtype=dtype)
    f_t = normal(3, channels, height_t, height_t, seed=2, dtype=dtype)
    assert_near(channel_correlation_loss(f_s, f_t), naive_channels(*arrays(f_s, f_t)))


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_channel_correlations_of_small_and_large_maps(scale):
    """In float32: the formula has fourth powers."""
    f_s, f_t = normal(2, 8, 4, 4, seed=1), normal(2, 8, 4, 4, seed=2)
    found = channel_correlation_loss((scale * f_s).float(), f_t.float() / scale)
    assert_near(found, naive_channels(*arrays(f_s, f_t)))


def test_channel_correlations_with_dead_channels():
    """A dead channel has a row of zeros, which is at distance 1 from any other."""
    f_s, f_t = normal(2, 4, 3, 3, seed=1), normal(2, 4, 3, 3, seed=2)
    f_s[:, 1], f_t[:, 1], f_t[:, 2] = 0, 0, 0
    f_s[1] = 0
    assert_near(channel_correlation_loss(f_s, f_t), naive_channels(*arrays(f_s, f_t)))


@every_dtype
def test_generation_loss(dtype):
    f = normal(3, 4, 2, 5, seed=1, dtype=dtype), normal(3, 4, 2, 5, seed=2, dtype=dtype)
    x, y = arrays(*f)
    assert_near(generation_loss(*f), sum(((a - b) ** 2).sum() for a, b in zip(x, y, strict=True)) / 3)


@every_dtype
@pytest.mark.parametrize("width", [3, 6])
def test_normalised_loss(width, dtype):
    e = normal(4, width, seed=1, dtype=dtype), 5 + 3 * normal(4, width, seed=2, dtype=dtype)
    assert_near(normalised_loss(*e), naive_smooth_l1(*arrays(*e)))


@every_dtype
@pytest.mark.parametrize(("rows", "width_s", "width_t"), [(1, 3, 2), (4, 3, 2), (9, 3, 2), (5, 2, 3), (6, 2, 3)])
def test_manifold_loss(rows, width_s, width_t, dtype):
    """With few rows by the cosines themselves, with more rows than channels without them."""
    p_s = F.normalize(normal(3, rows, width_s, seed=1), dim=2).to(dtype)
    p_t = F.normalize(normal(3, rows, width_t, seed=2), dim=2).to(dtype)
    expected = sum(naive_manifold(a, b) for a, b in zip(*arrays(p_s, p_t), strict=True)) / 3
    assert_near(manifold_loss(p_s, p_t), expected)
    assert_near(manifold_loss(p_s[0], p_t[0]), naive_manifold(*arrays(p_s[0], p_t[0])))


@every_dtype
def test_bridge_loss(dtype):
    f = normal(2, 3, 4, 5, seed=1, dtype=dtype), normal(2, 3, 4, 5, seed=2, dtype=dtype)
    x, y = arrays(*f)
    cosines = [naive_cosine(x[b, :, i, j], y[b, :, i, j]) for b in range(2) for i in range(4) for j in range(5)]
    assert_near(bridge_loss(*f, cosine=True), 1 - sum(cosines) / len(cosines))
    assert_near(bridge_loss(*f, cosine=False), ((x - y) ** 2).sum() / x.size)


def test_to_size():
    f = torch.arange(16, dtype=torch.float64).view(1, 1, 4, 4)
    assert to_size(f, (4, 4)) is f
    assert to_size(f, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    grown = to_size(f, (8, 8))[0, 0]
    assert grown.shape == (8, 8)
    assert grown[0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]  # pixels are areas
    both = to_size(f, (2, 8))[0, 0]
    assert both[:, 0].tolist() == [2, 10]
    np.testing.assert_allclose(both[0].numpy(), grown[0].numpy() + 2)


# --- gradients ------------------------------------------------------------------------------------

GRADIENTS = {
    "ofa, code": (lambda s: ofa_loss(s, normal(3, 4), torch.arange(3), 1.4, 2.0), [(3, 4)]),
    "ofa, paper": (lambda s: ofa_loss(s, normal(3, 4), torch.arange(3), 1.4, 2.0, True), [(3, 4)]),
    "projector_ensemble": (direction_loss, [(3, 4), (3, 4)]),
    "ickd": (channel_correlation_loss, [(2, 3, 2, 2), (2, 3, 3, 1)]),
    "mgd": (generation_loss, [(2, 3, 2, 2), (2, 3, 2, 2)]),
    "vkd": (normalised_loss, [(3, 4), (3, 4)]),
    "manifold, few rows": (manifold_loss, [(2, 3, 2), (2, 3, 4)]),
    "manifold, many rows": (manifold_loss, [(2, 7, 2), (2, 7, 4)]),
    "token_bridge": (lambda s, t: bridge_loss(s, t, True), [(2, 3, 2, 2), (2, 3, 2, 2)]),
}


@pytest.mark.parametrize("case", GRADIENTS)
def test_gradient_by_differences(case):
    loss, shapes = GRADIENTS[case]
    inputs = [normal(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes, start=1)]
    assert torch.autograd.gradcheck(loss, inputs)


# --- known values ---------------------------------------------------------------------------------


def test_ofa_with_gamma_one_asks_for_no_label():
    logits_s, logits_t = normal(4, 5, seed=1), normal(4, 5, seed=2)
    cross_entropy = -(logits_t.softmax(dim=1) * logits_s.log_softmax(dim=1)).sum(dim=1).mean()
    for labels in (torch.zeros(4, dtype=torch.int64), torch.arange(4)):
        assert_near(ofa_loss(logits_s, logits_t, labels, 1.0, 1.0), cross_entropy.item())
        with_labels = cross_entropy + F.cross_entropy(logits_s, labels)
        assert_near(ofa_loss(logits_s, logits_t, labels, 1.0, 1.0, as_in_paper=True), with_labels.item())


def test_ofa_trusts_a_label_more_where_the_teacher_does():
    """γ = 2 and two classes, p_t = ½: the label counts (3/2)² − 1 = 5/4, the other class 1/4."""
    logits = torch.zeros(1, 2, dtype=torch.float64)
    student = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)  # ¾ and ¼
    expected = -(5 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    assert_near(ofa_loss(student, logits, torch.tensor([0]), 2.0, 1.0), expected)
    expected = -(9 / 4 * math.log(3 / 4) + 1 / 2 * math.log(1 / 4))
    assert_near(ofa_loss(student, logits, torch.tensor([0]), 2.0, 1.0, as_in_paper=True), expected)


def test_equal_features_are_at_no_distance():
    f, e = normal(3, 4, 3, 3), normal(3, 5)
    assert_near(channel_correlation_loss(f, f), 0)
    assert_near(channel_correlation_loss(3 * f, f), 0)
    assert_near(generation_loss(f, f), 0)
    assert_near(direction_loss(3 * e, e), 0)
    assert_near(direction_loss(-e, e), 2)
    assert_near(bridge_loss(f, f, True), 0)
    assert_near(bridge_loss(f, f, False), 0)
    assert_near(normalised_loss(F.layer_norm(e, (5,)), 2 * e + 1), 0)


def test_manifold_sees_no_rotation_of_the_channels():
    f = normal(3, 4, 5, 5)
    rotation = torch.linalg.qr(normal(4, 4, seed=3)).Q
    rotated = torch.einsum("dc,bchw->bdhw", rotation, f)
    assert_near(manifold_loss(patches(f), patches(rotated)), 0)
    assert_near(manifold_loss(patches(f).transpose(0, 1), patches(rotated).transpose(0, 1)), 0)


def test_patches_are_rows_of_unit_length():
    f = normal(2, 3, 4, 5)
    p = patches(f)
    assert p.shape == (2, 20, 3)
    assert_near(p[1, 7], f[1, :, 1, 2].numpy() / f[1, :, 1, 2].norm().item())


# --- all methods ----------------------------------------------------------------------------------


@every_name
def test_published_weights_and_options(name):
    weights = METHODS[name].weights
    assert (weights.gamma, weights.alpha, weights.beta) == WEIGHTS[name]
    assert {option: p.default for option, p in options_of(name).items()} == OPTIONS[name]


def test_pefd_is_projector_ensemble():
    assert METHODS["pefd"] is METHODS["projector_ensemble"]


SETTINGS = {
    "ofa": [{}, {"ofa_form": "paper", "ofa_gamma": 1.5}],
    "projector_ensemble": [{}, {"pefd_relu": False, "pefd_projectors": 1}],
    "token_bridge": [{}, {"bridge_distance": "mse"}],
    "mgd": [{}, {"mgd_mask": "spatial", "mgd_ratio": 0.5}],
    "manifold": [{}, {"manifold_k": 2}],
}
CASES = [(name, options) for name in NAMES for options in SETTINGS.get(name, [{}])]
DEGENERATE = {
    "usual": lambda x: x,
    "zero": torch.zeros_like,
    "constant": torch.ones_like,
    "saturated": lambda x: 50 * x.sign(),
    "huge": lambda x: 1e4 * x,
}


@every_pair
@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_pair_of_families_gives_finite_losses_and_gradients(name, options, pair):
    shapes_s, shapes_t = PAIRS[pair]
    for change in DEGENERATE.values():
        method = make(name, shapes_s, shapes_t, **options).float()
        student, teacher = make_features(shapes_s, 2, 1, torch.float32), make_features(shapes_t, 2, 5, torch.float32)
        leaves = [change(x).requires_grad_() for x in (student.logits, student.embedding, *student.stages)]
        student = Features(leaves[0], leaves[1], None, tuple(leaves[2:]))
        teacher = Features(
            change(teacher.logits), change(teacher.embedding), None, tuple(change(x) for x in teacher.stages)
        )
        losses = method.losses(student, (teacher,), make_batch(2))
        sum(losses.values()).backward()
        assert all(loss.isfinite() and loss.shape == () for loss in losses.values()), losses
        assert any(leaf.grad is not None for leaf in leaves)
        assert all(leaf.grad.isfinite().all() for leaf in leaves if leaf.grad is not None)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


@every_name
def test_no_global_random_number_is_drawn(name):
    method = make(name)
    before = torch.get_rng_state()
    method.losses(make_features(CNN, 3), (make_features(WIDE, 3),), make_batch(3))
    assert torch.equal(torch.get_rng_state(), before)


REFUSALS = [
    ("ofa", {"ofa_gamma": 0.0}, "--ofa_gamma is 0.0; it must be positive"),
    ("ofa", {"ofa_temperature": -1.0}, "--ofa_temperature is -1.0; it must be positive"),
    ("ofa", {"ofa_weight": 0.0}, "--ofa_weight is 0.0; it must be positive"),
    ("projector_ensemble", {"pefd_projectors": 0}, "--pefd_projectors is 0; give 1 or more"),
    ("mgd", {"mgd_ratio": 1.0}, r"--mgd_ratio is 1.0; it must lie in \[0, 1\)"),
    ("mgd", {"mgd_ratio": -0.1}, r"--mgd_ratio is -0.1; it must lie in \[0, 1\)"),
    ("manifold", {"manifold_k": 1}, "--manifold_k is 1; relations need 2 patches or more"),
    ("manifold", {"manifold_patch": -1.0}, "--manifold_patch is -1.0; it must be 0 or more"),
]


@pytest.mark.parametrize(("name", "options", "sentence"), REFUSALS)
def test_refusals(name, options, sentence):
    with pytest.raises(RequestError, match=sentence):
        make(name, **options)


# --- ofa ------------------------------------------------------------------------------------------


def test_ofa_exits_of_a_cnn_halve_the_map_once_for_each_stage_to_come():
    method = make("ofa", CNN, WIDE)
    convolutions = [[m for m in leave if isinstance(m, SeparableConvolutions)] for leave in method.exits]
    assert [len(found) for found in convolutions] == [2, 1, 0]
    widths = [[m[-3].out_channels for m in found] for found in convolutions]
    assert widths == [[6, 7], [7], []]  # doubled, then the wider of both embeddings
    assert [leave[-1].in_features for leave in method.exits] == [7, 7, 7]
    f = make_features(CNN, 2).stages
    assert [leave[:-3](x).shape[2:] for leave, x in zip(method.exits, f, strict=True)] == [(2, 2)] * 3
    assert all(leave(x).shape == (2, 4) for leave, x in zip(method.exits, f, strict=True))


def test_ofa_exits_of_an_mlp_have_attention():
    method = make("ofa", MLP, CNN)
    assert [len(leave.blocks) for leave in method.exits] == [3, 2, 1, 1]
    assert all(len(leave.merge) == 0 for leave in method.exits)


def test_ofa_exit_of_a_cnn_by_loops():
    """Two halvings; each normalises over the batch, with scale 1 and shift 0 as at the start."""
    leave = make("ofa", CNN, WIDE).exits[0]
    f = make_features(CNN, 2).stages[0]

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
    weight, bias = arrays(leave[-1].weight, leave[-1].bias)
    assert_near(leave(f), x.mean(axis=(2, 3)) @ weight.T + bias)


@pytest.mark.parametrize(("grid", "merges"), [(4, 0), (7, 0), (8, 0), (13, 0), (14, 1), (16, 1), (28, 2), (56, 3)])
def test_ofa_merges_patches_while_seven_by_seven_remain(grid, merges):
    leave = TokenExit((8, grid, grid), 2, 5)
    assert len(leave.merge) == merges
    kinds = {0: [], 1: [nn.GELU], 2: [nn.GELU, nn.Identity], 3: [nn.GELU, nn.GELU, nn.Identity]}
    assert [type(merge.activation) for merge in leave.merge] == kinds[merges]
    assert leave.merge(torch.zeros(1, 8, grid, grid)).shape == (1, 8, grid >> merges, grid >> merges)
    assert leave(torch.zeros(2, 8, grid, grid)).shape == (2, 5)


def test_ofa_merges_neighbours():
    merge = PatchMerging(3, nn.GELU()).double()
    x = normal(1, 3, 6, 4).requires_grad_()
    out = merge(x)
    assert out.shape == (1, 3, 3, 2)
    (gradient,) = torch.autograd.grad(out[0, :, 2, 1].square().sum(), x)
    touched = gradient[0].abs().sum(dim=0) > 0
    assert touched.nonzero().tolist() == [[4, 2], [4, 3], [5, 2], [5, 3]]


@pytest.mark.parametrize(("width", "heads"), [(8, 4), (6, 2), (5, 1)])
def test_ofa_attention_by_loops(width, heads):
    torch.manual_seed(0)
    block = AttentionBlock(width).double()
    assert block.heads == heads
    for norm in (block.norm1, block.norm2):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = normal(2, 5, width)

    def linear(layer, rows):
        out = rows @ layer.weight.detach().numpy().T
        return out if layer.bias is None else out + layer.bias.detach().numpy()

    def normed(layer, rows):
        centred = rows - rows.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
        return scaled * layer.weight.detach().numpy() + layer.bias.detach().numpy()

    expected, size = [], width // heads
    for rows in x.numpy():
        q, k, v = np.split(linear(block.qkv, normed(block.norm1, rows)), 3, axis=1)
        mixed = np.zeros_like(rows)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for i in range(len(rows)):
                weights = softmax([(q[i, part] * k[j, part]).sum() / math.sqrt(size) for j in range(len(rows))])
                mixed[i, part] = sum(w * v[j, part] for j, w in enumerate(weights))
        rows = rows + linear(block.mix, mixed)
        hidden = linear(block.mlp[0], normed(block.norm2, rows))
        gelu = np.vectorize(lambda value: value * (1 + math.erf(value / math.sqrt(2))) / 2)(hidden)
        expected.append(rows + linear(block.mlp[2], gelu))
    assert_near(block(x), expected)


@pytest.mark.parametrize(("form", "as_in_paper"), [("code", False), ("paper", True)])
def test_ofa_weighs_its_exits(form, as_in_paper):
    method = make("ofa", MLP, CNN, ofa_weight=0.3, ofa_gamma=1.5, ofa_temperature=2.0, ofa_form=form)
    student, teacher, batch = make_features(MLP, 5), make_features(CNN, 5, 20), make_batch(5)
    losses = method.losses(student, (teacher,), batch)
    settings = (batch.labels.tolist(), 1.5, 2.0, as_in_paper)
    assert set(losses) == {"ofa_logits", "ofa_exits"}
    assert_near(losses["ofa_logits"], naive_ofa(*arrays(student.logits, teacher.logits), *settings))
    exits = [leave(f) for leave, f in zip(method.exits, student.stages, strict=True)]
    expected = sum(naive_ofa(*arrays(logits, teacher.logits), *settings) for logits in exits)
    assert_near(losses["ofa_exits"], 0.3 * expected)


def test_ofa_standardises_its_exits_like_the_teacher():
    method = make("ofa", MLP, CNN, ofa_weight=0.3, ofa_gamma=1.5)
    method.logit_standardization = True
    student, teacher, batch = make_features(MLP, 5), make_features(CNN, 5, 20), make_batch(5)
    losses = method.own_losses(student, (teacher,), batch)

    def z_scored(logits):
        rows = logits.detach().numpy()
        return (rows - rows.mean(axis=1, keepdims=True)) / (rows.std(axis=1, ddof=1, keepdims=True) + 1e-7)

    def expected(logits):
        return naive_ofa(z_scored(logits), z_scored(teacher.logits), batch.labels.tolist(), 1.5, 1.0, False)

    assert_near(losses["ofa_logits"], expected(student.logits))
    exits = [leave(f) for leave, f in zip(method.exits, student.stages, strict=True)]
    assert_near(losses["ofa_exits"], 0.3 * sum(map(expected, exits)))


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_ofa_takes_the_label_of_an_images_larger_part(share):
    method = make("ofa", MLP, CNN, ofa_gamma=1.5)
    student, teacher, batch = make_features(MLP, 4), make_features(CNN, 4, 20), make_batch(4)
    others = (batch.labels + 1) % 4
    batch.targets = share * torch.eye(4)[batch.labels] + (1 - share) * torch.eye(4)[others]
    main = (batch.labels if share > 0.5 else others).tolist()
    found = method.losses(student, (teacher,), batch)["ofa_logits"]
    assert_near(found, naive_ofa(*arrays(student.logits, teacher.logits), main, 1.5, 1.0, False))


def test_ofa_exits_start_small():
    for leave in make("ofa", MLP, CNN).exits:
        assert leave.head.weight.abs().max() < 0.1
        assert (leave.head.bias == 0).all()


# --- projector_ensemble ---------------------------------------------------------------------------


@pytest.mark.parametrize("relu", [True, False])
def test_projectors_are_averaged(relu):
    method = make("projector_ensemble", pefd_relu=relu)
    student, teacher = make_features(CNN, 5), make_features(WIDE, 5, 20)
    projected = np.zeros((5, 7))
    for projector in method.projectors:
        weight, bias = arrays(projector.weight, projector.bias)
        each = student.embedding.numpy() @ weight.T + bias
        projected += (np.maximum(each, 0) if relu else each) / 3
    expected = sum(1 - naive_cosine(a, b) for a, b in zip(projected, teacher.embedding.numpy(), strict=True)) / 5
    assert_near(method.losses(student, (teacher,), make_batch(5))["projector_ensemble"], expected)


def test_projectors_start_apart():
    first, second, third = make("projector_ensemble").projectors
    assert not torch.equal(first.weight, second.weight)
    assert not torch.equal(second.weight, third.weight)


# --- ickd and token_bridge ------------------------------------------------------------------------


def test_ickd_through_its_embedding():
    method = make("ickd", CNN, MLP)
    student, teacher = make_features(CNN, 3), make_features(MLP, 3, 20)
    x = np.einsum("dc,bchw->bdhw", method.embed[0].weight.detach().numpy()[:, :, 0, 0], student.stages[-1].numpy())
    mean, variance = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
    x = (x - mean) / np.sqrt(variance + 1e-5)
    expected = naive_channels(x, teacher.stages[-1].numpy())
    assert_near(method.losses(student, (teacher,), make_batch(3))["ickd"], expected)


@pytest.mark.parametrize("distance", ["cosine", "mse"])
@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [(MLP, CNN, [(1, 0), (2, 1), (3, 2)]), (CNN, MLP, [(0, 1), (1, 2), (2, 3)]), (CNN, CNN, [(0, 0), (1, 1), (2, 2)])],
)
def test_token_bridge_by_stages(student, teacher, pairs, distance):
    method = make("token_bridge", student, teacher, bridge_distance=distance)
    f_s, f_t = make_features(student, 2), make_features(teacher, 2, 20)
    expected = 0.0
    for (i, j), layer in zip(pairs, method.projections, strict=True):
        weight, bias = arrays(layer.weight[:, :, 0, 0], layer.bias)
        x = np.einsum("dc,bchw->bdhw", weight, f_s.stages[i].numpy()) + bias[:, None, None]
        (y,) = arrays(to_size(f_t.stages[j], x.shape[2:]))
        if distance == "mse":
            expected += ((x - y) ** 2).mean() / len(pairs)
        else:
            places = [(b, h, w) for b in range(2) for h in range(x.shape[2]) for w in range(x.shape[3])]
            cosines = [naive_cosine(x[b, :, h, w], y[b, :, h, w]) for b, h, w in places]
            expected += (1 - sum(cosines) / len(places)) / len(pairs)
    assert_near(method.losses(f_s, (f_t,), make_batch(2))["token_bridge"], expected)


# --- mgd ------------------------------------------------------------------------------------------


class Seen(nn.Module):
    """Stands for the generator; remembers what it was given."""

    def forward(self, x):
        self.given = x
        return x


def masked_by(method, step=0, batch=200):
    """Which (sample, channel, row, column) of the student's map an mgd lets through."""
    method.generate = Seen()
    student, teacher = make_features(CNN, batch), make_features(CNN, batch, 20)
    method.losses(student, (teacher,), make_batch(batch, step))
    kept = method.generate.given != 0
    assert torch.equal(method.generate.given[kept], student.stages[-1][kept])  # what is kept is not scaled
    return kept


@pytest.mark.parametrize(("mask", "axes"), [("channel", (2, 3)), ("spatial", (1,))])
def test_mgd_masks_channels_or_positions_as_a_whole(mask, axes):
    kept = masked_by(make("mgd", CNN, CNN, mgd_mask=mask, mgd_ratio=0.3))
    assert torch.equal(kept.all(dim=axes), kept.any(dim=axes))
    share = 1 - kept.all(dim=axes).double().mean().item()
    assert share == pytest.approx(0.3, abs=0.06)
    other = kept.all(dim=axes).flatten(1)
    assert not (other == other[0]).all()  # each sample has its own


def test_mgd_draws_anew_at_each_step_and_the_same_at_the_same():
    method = make("mgd", CNN, CNN)
    assert torch.equal(masked_by(method, 3), masked_by(method, 3))
    assert not torch.equal(masked_by(method, 3), masked_by(method, 4))


def test_mgd_without_a_mask():
    assert masked_by(make("mgd", CNN, CNN, mgd_ratio=0.0)).all()


def test_mgd_aligns_channels_that_differ_and_pools_the_larger_map():
    assert isinstance(make("mgd", CNN, CNN).align, nn.Identity)
    method = make("mgd", CNN, WIDE, mgd_ratio=0.0)
    student, teacher = make_features(CNN, 2), make_features(WIDE, 2, 20)
    (loss,) = method.losses(student, (teacher,), make_batch(2)).values()
    generated, target = arrays(
        method.generate(method.align(student.stages[-1])), F.avg_pool2d(teacher.stages[-1], 2)
    )  # 2×2 and 4×4
    assert_near(loss, ((generated - target) ** 2).sum() / 2)
    assert [type(layer) for layer in method.generate] == [nn.Conv2d, nn.ReLU, nn.Conv2d]
    kernels = [layer.kernel_size for layer in method.generate if isinstance(layer, nn.Conv2d)]
    assert kernels == [(3, 3), (3, 3)]


# --- vkd ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width_in", "width_out"), [(3, 7), (7, 3), (5, 5), (1, 4)])
def test_vkd_projection_is_the_cayley_transform_and_stays_orthogonal(width_in, width_out):
    torch.manual_seed(0)
    projection = OrthogonalProjection(width_in, width_out).double()
    projection.start.copy_(torch.linalg.qr(projection.start).Q)  # orthogonal in double precision
    start = projection.start.T if width_in > width_out else projection.start
    assert_near(projection.matrix(), start.numpy())
    nn.init.normal_(projection.move)
    found = projection.matrix()
    assert found.shape == (width_out, width_in)
    gram = found.T @ found if width_in <= width_out else found @ found.T
    assert_near(gram, np.eye(min(width_in, width_out)))
    q, x = arrays(projection.start, projection.move)
    a = x @ q.T - q @ x.T
    expected = np.linalg.inv(np.eye(len(a)) - a / 2) @ (np.eye(len(a)) + a / 2) @ q
    assert_near(found, expected.T if width_in > width_out else expected)
    z = normal(4, width_in)
    assert_near(projection(z), z.numpy() @ found.detach().numpy().T)


def test_vkd_gradient_of_the_projection_by_differences():
    projection = OrthogonalProjection(3, 5).double()

    def project(move):
        return torch.func.functional_call(projection, {"move": move}, (normal(2, 3),))

    assert torch.autograd.gradcheck(project, (normal(5, 3).requires_grad_(),))


def test_vkd_stays_orthogonal_while_it_learns():
    method = make("vkd").float()
    student, teacher = make_features(CNN, 5, 1, torch.float32), make_features(WIDE, 5, 20, torch.float32)
    optimizer, losses = torch.optim.SGD(method.parameters(), lr=0.5, momentum=0.9), []
    for _ in range(30):
        (loss,) = method.losses(student, (teacher,), make_batch(5)).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    found = method.project.matrix()
    np.testing.assert_allclose((found.T @ found).detach().numpy(), np.eye(6), atol=1e-5)


# --- manifold -------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [3, 192])
def test_manifold_by_stages(k):
    """Pairs of stages (1, 0), (2, 1), (3, 2); the larger map is pooled; with k = 192 all patches are drawn."""
    method = make("manifold", MLP, CNN, manifold_k=k)
    student, teacher, batch = make_features(MLP, 3), make_features(CNN, 3, 20), make_batch(3)
    losses = method.losses(student, (teacher,), batch)
    generator, totals = batch.generator("manifold"), np.zeros(3)
    for i, j in [(1, 0), (2, 1), (3, 2)]:
        f_s, f_t = student.stages[i], teacher.stages[j]
        size = min(f_s.shape[2], f_t.shape[2])
        rows = []
        for f in (f_s, f_t):
            (pooled,) = arrays(F.avg_pool2d(f, f.shape[2] // size))
            flat = pooled.reshape(3, f.shape[1], -1).transpose(0, 2, 1)
            rows.append(flat / np.sqrt((flat**2).sum(axis=2, keepdims=True)))
        p_s, p_t = rows
        totals[0] += np.mean([naive_manifold(s, t) for s, t in zip(p_s, p_t, strict=True)])
        totals[1] += np.mean([naive_manifold(p_s[:, n], p_t[:, n]) for n in range(size**2)])
        drawn = torch.randperm(3 * size**2, generator=generator)[:k].numpy()
        totals[2] += naive_manifold(*(p.reshape(-1, p.shape[2])[drawn] for p in (p_s, p_t)))
    names = ("manifold_patch", "manifold_sample", "manifold_random")
    for name, weight, total in zip(names, (4.0, 0.1, 0.2), totals, strict=True):
        assert_near(losses[name], weight * total / 3)


def test_manifold_draws_anew_at_each_step():
    method = make("manifold", MLP, CNN, manifold_k=3)
    student, teacher = make_features(MLP, 3), make_features(CNN, 3, 20)
    found = [method.losses(student, (teacher,), make_batch(3, step))["manifold_random"] for step in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
