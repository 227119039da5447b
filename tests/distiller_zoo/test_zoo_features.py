"""NST, CC, KD-SVD, FSP, AB and FT: each loss against its formula by plain loops; gradients, stages, refusals."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.errors import RequestError
from distiller_zoo import METHODS, Pair, Weights, create_method, options_of
from distiller_zoo.abound import Connector, boundary_loss
from distiller_zoo.correlation import congruence_loss, neighbours_loss, taylor_kernel
from distiller_zoo.factor import factor_loss
from distiller_zoo.fsp import flow_matrix, fsp_loss
from distiller_zoo.kdsvd import aligned, kdsvd_loss, singular_vectors
from distiller_zoo.nst import mean_kernel, nst_loss
from models import Features, FeatureShapes, create_model
from tests import numerics
from tests.numerics import arrays, every_dtype, naive_common, normal, seeds

few = partial(settings, deadline=None, max_examples=25)
assert_near = partial(numerics.assert_near, double=1e-8, single=2e-4)


def shapes(stages=((3, 4, 4), (5, 2, 2)), stem=(2, 8, 8), embedding=6, preacts=None):
    return FeatureShapes(10, embedding, stem, stages, stages if preacts is None else preacts, (), stages[-1])


def features(of, seed, dtype=torch.float64, batch=3):
    """Random features of such shapes."""
    maps = [
        tuple(normal(batch, *s, seed=seed + n, dtype=dtype) for n, s in enumerate(f)) for f in (of.stages, of.preacts)
    ]
    stem = normal(batch, *of.stem, seed=seed + 90, dtype=dtype)
    return Features(normal(batch, 10), normal(batch, of.embedding, seed=seed, dtype=dtype), stem, *maps)


MAP_SHAPES = [
    ((2, 3, 4, 4), (2, 3, 4, 4)),
    ((3, 4, 4, 4), (3, 6, 8, 8)),  # the teacher is pooled
    ((2, 5, 8, 8), (2, 2, 4, 4)),  # the student is pooled
    ((2, 2, 7, 7), (2, 3, 3, 3)),  # cells that overlap
    ((2, 9, 2, 1), (2, 7, 1, 2)),  # more channels than positions
    ((1, 4, 1, 1), (1, 2, 2, 2)),
]
every_map_shape = pytest.mark.parametrize(("shape_s", "shape_t"), MAP_SHAPES)


# --- NST ------------------------------------------------------------------------------------------


def naive_nst(f_s, f_t):
    batch, total = len(f_s), 0.0
    for s, t in zip(*naive_common(f_s, f_t), strict=True):
        rows_s, rows_t = ([c.ravel() / math.sqrt((c**2).sum()) for c in maps] for maps in (s, t))
        for sign, a, b in ((1, rows_t, rows_t), (1, rows_s, rows_s), (-2, rows_s, rows_t)):
            total += sign * np.mean([(x * y).sum() ** 2 for x in a for y in b])
    return total / batch


@every_dtype
@every_map_shape
def test_nst(shape_s, shape_t, dtype):
    maps = normal(*shape_s, seed=1, dtype=dtype), normal(*shape_t, seed=2, dtype=dtype)
    assert_near(nst_loss(*maps), naive_nst(*arrays(*maps)))


@pytest.mark.parametrize(("channels", "positions"), [((2, 3), 50), ((40, 30), 4), ((1, 40), 2), ((6, 6), 3)])
def test_both_forms_of_the_mean_kernel(channels, positions):
    x, y = normal(2, channels[0], positions, seed=1), normal(2, channels[1], positions, seed=2)
    expected = np.mean([[(a @ b) ** 2 for a in rows_x for b in rows_y] for rows_x, rows_y in zip(x, y, strict=True)])
    assert_near(mean_kernel(x, y), expected)


@few()
@given(seed=seeds, channels=st.integers(1, 9), size=st.integers(1, 4))
def test_nst_knows_neither_scale_nor_order_nor_number_of_the_channels(seed, channels, size):
    f, other = normal(3, channels, size, size, seed=seed), normal(3, 4, size, size, seed=seed + 1)
    assert abs(nst_loss(2.5 * f, f)) < 1e-12
    assert abs(nst_loss(f.flip(1), f)) < 1e-12
    assert abs(nst_loss(torch.cat([f, -f], dim=1), f)) < 1e-12  # the kernel is even
    assert nst_loss(other, f) > -1e-12


def test_nst_of_known_maps():
    """Channels that fire at one place each: K is 1 for the same place and 0 for others."""
    f_s = torch.eye(2, 4, dtype=torch.float64).view(1, 2, 2, 2)
    f_t = torch.eye(4, dtype=torch.float64).view(1, 4, 2, 2)
    assert nst_loss(f_s, f_t).item() == pytest.approx(1 / 4 + 1 / 2 - 2 * 2 / 8)


def test_nst_sums_over_paired_stages():
    shapes_s, shapes_t = shapes(((3, 4, 4), (5, 2, 2))), shapes(((2, 4, 4), (3, 4, 4), (4, 2, 2), (5, 1, 1)))
    student, teacher = features(shapes_s, 1), features(shapes_t, 5)
    found = create_method("nst", Pair(shapes_s, (shapes_t,), 50)).loss(student, teacher, None)
    expected = naive_nst(*arrays(student.stages[0], teacher.stages[1]))
    expected += naive_nst(*arrays(student.stages[1], teacher.stages[3]))
    assert_near(found, expected)


# --- CC -------------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("shape", [(2, 3), (5, 4), (9, 1)])
def test_neighbours(shape, dtype):
    e = normal(*shape, seed=1, dtype=dtype), normal(*shape, seed=2, dtype=dtype)
    s, t = arrays(*e)
    products = [sum(abs(s[i] - t[i]) * abs(s[i + 1] - t[i + 1])) for i in range(len(s) - 1)]
    assert_near(neighbours_loss(*e), sum(products) / (len(s) - 1))


def test_neighbours_of_known_embeddings():
    e = torch.tensor([[1.0, -2.0], [3.0, 4.0], [0.0, 1.0]])
    assert neighbours_loss(e, torch.zeros(3, 2)) == (3 + 8 + 4) / 2
    assert neighbours_loss(e, e) == 0
    assert neighbours_loss(e[:1], torch.zeros(1, 2)) == 0  # one sample has no neighbour


def naive_congruence(e_s, e_t, gamma, order):
    kernels = []
    for e in (e_s, e_t):
        unit = [row / math.sqrt((row**2).sum()) for row in e]
        terms = [
            [[(2 * gamma * (a @ b)) ** p / math.factorial(p) for p in range(order + 1)] for b in unit] for a in unit
        ]
        kernels.append(math.exp(-2 * gamma) * np.array(terms).sum(axis=2))
    return ((kernels[0] - kernels[1]) ** 2).sum() / len(e_s) ** 2


@every_dtype
@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (1.5, 1), (0.1, 5)])
@pytest.mark.parametrize(("batch", "width_s", "width_t"), [(1, 2, 3), (4, 3, 3), (7, 5, 2)])
def test_congruence(batch, width_s, width_t, gamma, order, dtype):
    e = normal(batch, width_s, seed=1, dtype=dtype), normal(batch, width_t, seed=2, dtype=dtype)
    assert_near(congruence_loss(*e, gamma, order), naive_congruence(*arrays(*e), gamma, order))


def test_the_taylor_kernel_tends_to_the_gaussian_one():
    e = normal(5, 3)
    unit = e / e.norm(dim=1, keepdim=True)
    gaussian = torch.exp(-0.4 * torch.cdist(unit, unit).square())
    torch.testing.assert_close(taylor_kernel(e, 0.4, 20), gaussian)


@pytest.mark.parametrize("form", ["repdistiller", "paper"])
def test_correlation_in_its_two_forms(form):
    of = shapes(embedding=6)
    method = create_method("cc", Pair(of, (of,), 50), {"cc_form": form, "feat_dim": 4}).double()
    student, teacher = features(of, 1), features(of, 2)
    found = method.loss(student, teacher, None)
    if form == "paper":
        assert list(method.parameters()) == []
        expected = naive_congruence(*arrays(student.embedding, teacher.embedding), 0.4, 2)
    else:
        sides = ((method.embed_s, student), (method.embed_t, teacher))
        s, t = (x @ w.T + b for w, b, x in (arrays(layer.weight, layer.bias, side.embedding) for layer, side in sides))
        d = abs(s - t)
        expected = np.mean([d[i] @ d[i + 1] for i in range(len(d) - 1)])
        assert s.shape[1] == 4
    assert_near(found, expected)


# --- KD-SVD ---------------------------------------------------------------------------------------


def spectral(batch, channels, height, width, seed=0, dtype=torch.float64):
    """Maps whose singular values fall by a factor of 0.3, and their right singular vectors."""
    rank = min(channels, height * width)
    u = torch.linalg.qr(normal(batch, height * width, rank, seed=seed)).Q
    v = torch.linalg.qr(normal(batch, channels, rank, seed=seed + 1)).Q
    values = 5 * 0.3 ** torch.arange(rank, dtype=torch.float64)
    maps = ((u * values) @ v.mT).mT.unflatten(2, (height, width))
    return maps.to(dtype), v


def naive_kdsvd(maps_s, maps_t):
    total, before = 0.0, None
    for f_s, f_t in zip(maps_s, maps_t, strict=True):
        vectors = []
        for sample_s, sample_t in zip(f_s, f_t, strict=True):
            right_s, right_t = (np.linalg.svd(m.reshape(len(m), -1).T)[2] for m in (sample_s, sample_t))
            v_t = right_t[0] * (1 if right_t[0].sum() > 0 else -1)
            cosines = [row @ v_t for row in right_s[: min(4, sample_s[0].size)]]
            best = max(range(len(cosines)), key=lambda i, c=cosines: abs(c[i]))
            vectors.append((right_s[best] * math.copysign(1, cosines[best]), v_t))
        if before is not None:
            for (s, t), (s_before, t_before) in zip(vectors, before, strict=True):
                for c, d in np.ndindex(len(t), len(t_before)):
                    r_s, r_t = math.exp(-((s[c] - s_before[d]) ** 2) / 8), math.exp(-((t[c] - t_before[d]) ** 2) / 8)
                    total += (r_s - r_t) ** 2 / len(vectors)
        before = vectors
    return total


SVD_SHAPES = [[(3, 4, 4), (5, 2, 2)], [(9, 2, 2), (7, 1, 3), (4, 3, 3)], [(2, 2, 2), (6, 3, 2)]]


@every_dtype
@pytest.mark.parametrize("sizes", SVD_SHAPES)
def test_kdsvd(sizes, dtype):
    maps_s = [spectral(3, *size, seed=10 * n, dtype=dtype)[0] for n, size in enumerate(sizes)]
    maps_t = [spectral(3, *size, seed=10 * n + 5, dtype=dtype)[0] for n, size in enumerate(sizes)]
    assert_near(kdsvd_loss(maps_s, maps_t), naive_kdsvd([m.numpy() for m in maps_s], [m.numpy() for m in maps_t]))


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


def test_the_candidate_closest_to_the_teacher_is_taken_with_its_sign():
    candidates = torch.eye(5, 4, dtype=torch.float64).expand(2, -1, -1)
    v_t = torch.tensor([[0.1, 0.2, -0.9, 0.3, 0.0], [0.1, 0.2, 0.3, 0.4, 0.8]], dtype=torch.float64)
    expected = torch.tensor([[0.0, 0, -1, 0, 0], [0, 0, 0, 1, 0]], dtype=torch.float64)
    assert torch.equal(aligned(candidates, v_t), expected)


def test_kdsvd_of_equal_maps_is_zero():
    maps = [normal(3, *size, seed=n).relu() for n, size in enumerate(SVD_SHAPES[1])]
    assert abs(kdsvd_loss(maps, maps)) < 1e-20
    assert abs(kdsvd_loss([3 * m for m in maps], maps)) < 1e-20


# --- FSP ------------------------------------------------------------------------------------------


def naive_flow(bottom, top):
    bottom, top = naive_common(bottom, top)
    out = np.zeros((len(top), top.shape[1], bottom.shape[1]))
    for b, c, d in np.ndindex(out.shape):
        out[b, c, d] = (top[b, c] * bottom[b, d]).mean()
    return out


@every_dtype
@every_map_shape
def test_flow(shape_s, shape_t, dtype):
    maps = normal(*shape_s, seed=1, dtype=dtype), normal(*shape_t, seed=2, dtype=dtype)
    assert_near(flow_matrix(*maps), naive_flow(*arrays(*maps)))


@every_dtype
def test_fsp_from_stem_to_last_stage(dtype):
    """Student and teacher may differ in resolution, not in width."""
    of_s, of_t = shapes(((3, 4, 4), (5, 2, 2))), shapes(((3, 8, 8), (5, 2, 4)), stem=(2, 4, 4))
    student, teacher = features(of_s, 1, dtype), features(of_t, 5, dtype)
    expected = 0.0
    maps = [arrays(side.stem, *side.stages) for side in (student, teacher)]
    for place in (0, 1):
        flows = [naive_flow(of[place], of[place + 1]) for of in maps]
        expected += ((flows[0] - flows[1]) ** 2).mean()
    method = create_method("fsp", Pair(of_s, (of_t,), 50), {"fsp_main": True})
    for losses in (method.losses, method.initial_losses):
        found = losses(student, (teacher,), None)
        assert list(found) == ["fsp"]
        assert_near(found["fsp"], expected)


def test_fsp_of_known_maps():
    ones = [torch.ones(1, 2, 2, 2), torch.ones(1, 3, 1, 1)]
    assert fsp_loss([2 * ones[0], ones[1]], ones) == 1
    assert fsp_loss(ones, ones) == 0


# --- AB -------------------------------------------------------------------------------------------


def naive_boundary(s, t, margin=1.0):
    """As published: by two masks."""
    total = 0.0
    for x, y in zip(s.ravel(), t.ravel(), strict=True):
        total += (x + margin) ** 2 * (x > -margin and y <= 0) + (x - margin) ** 2 * (x <= margin and y > 0)
    return total / len(s)


@every_dtype
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 4), (3, 5, 2, 3)])
def test_boundary(shape, dtype):
    s, t = 2 * normal(*shape, seed=1, dtype=dtype), normal(*shape, seed=2, dtype=dtype)
    assert_near(boundary_loss(s, t), naive_boundary(*arrays(s, t)))


def test_boundary_of_known_neurons():
    s = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).view(1, 5, 1, 1)
    assert boundary_loss(s, torch.ones_like(s)) == 9 + 4 + 1
    assert boundary_loss(s, torch.zeros_like(s)) == 1 + 4 + 9  # a neuron at zero does not fire
    assert boundary_loss(s, 2 * s - 1e-3 * (s == 0)) == 1  # on the right side by the margin, but for the one at zero


@every_dtype
def test_abound_weighs_stages_and_batch(dtype):
    """Two stages through connectors, one without: 3/1000 · (ℓ₁/4 + ℓ₂/2 + ℓ₃) / B."""
    torch.manual_seed(0)
    of_s = shapes(((2, 4, 4), (3, 4, 4), (5, 2, 2)), preacts=((2, 4, 4), (3, 4, 4), (5, 2, 2)))
    of_t = shapes(((2, 8, 8), (4, 4, 4), (5, 2, 2)), preacts=((2, 8, 8), (4, 4, 4), (5, 2, 2)))
    method = create_method("ab", Pair(of_s, (of_t,), 50)).to(dtype)
    assert [type(c) for c in method.connectors] == [Connector, Connector, nn.Identity]
    student, teacher = features(of_s, 1, dtype), features(of_t, 5, dtype)
    losses = method.initial_losses(student, (teacher,), None)
    assert list(losses) == ["abound"]
    seen = [c(f) for c, f in zip(method.connectors, student.preacts, strict=True)]
    terms = [naive_boundary(*arrays(s, t)) for s, t in zip(seen, teacher.preacts, strict=True)]
    assert_near(losses["abound"], 3 / 1000 * (terms[0] / 4 + terms[1] / 2 + terms[2]))


@pytest.mark.parametrize("sizes", [(4, 2), (2, 4), (5, 3), (2, 8)])
def test_a_connector_is_a_regressor_without_its_relu(sizes):
    torch.manual_seed(0)
    source, target = (2, sizes[0], sizes[0]), (3, sizes[1], sizes[1])
    connector = Connector(source, target).double()
    x = normal(2, *source)
    out = connector(x)
    assert out.shape[1:] == target
    assert out.min() < 0
    assert_near(super(Connector, connector).forward(x), out.clamp(min=0).detach().numpy())


# --- FT -------------------------------------------------------------------------------------------


def naive_factor(f_s, f_t, whole):
    unit = []
    for f in naive_common(f_s, f_t):
        rows = [(sample if whole else (sample**2).mean(axis=0)).ravel() for sample in f]
        unit.append(np.array([row / math.sqrt((row**2).sum()) for row in rows]))
    return abs(unit[0] - unit[1]).mean()


@every_dtype
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("shape_t", [(2, 3, 4, 4), (2, 3, 8, 8), (2, 3, 3, 3)])
def test_factor_loss(shape_t, whole, dtype):
    f = normal(2, 3, 4, 4, seed=1, dtype=dtype), normal(*shape_t, seed=2, dtype=dtype)
    assert_near(factor_loss(*f, whole), naive_factor(*arrays(*f), whole))


def convolve(x, layer):
    """3×3 with padding 1; the transposed one is that of the flipped kernel with channels exchanged."""
    weight, bias = arrays(layer.weight, layer.bias)
    if isinstance(layer, nn.ConvTranspose2d):
        weight = weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(x), len(weight), x.shape[2] - 2, x.shape[3] - 2))
    for b, c, i, j in np.ndindex(out.shape):
        out[b, c, i, j] = (x[b, :, i : i + 3, j : j + 3] * weight[c]).sum() + bias[c]
    return out


def run_layers(x, layers):
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            mean, variance = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
            x = (x - mean) / np.sqrt(variance + 1e-5)
        elif isinstance(layer, nn.LeakyReLU):
            x = np.where(x > 0, x, 0.1 * x)
        else:
            x = convolve(x, layer)
    return x


def make_factor(dtype=torch.float64, **options):
    torch.manual_seed(0)
    of_s, of_t = shapes(((3, 4, 4), (4, 2, 2))), shapes(((3, 4, 4), (6, 4, 4)))
    return (
        create_method("ft", Pair(of_s, (of_t,), 50), options).to(dtype),
        features(of_s, 1, dtype),
        features(of_t, 5, dtype),
    )


@every_dtype
@pytest.mark.parametrize("form", ["repdistiller", "paper"])
def test_factor_through_its_layers(form, dtype):
    method, student, teacher = make_factor(dtype, ft_form=form)
    f_s, f_t = arrays(student.stages[-1], teacher.stages[-1])
    factor_t = run_layers(f_t, method.paraphraser.encoder)
    again = run_layers(factor_t, method.paraphraser.decoder)
    initial = method.initial_losses(None, (teacher,), None)  # from teacher features alone
    assert list(initial) == ["paraphraser"]
    assert_near(initial["paraphraser"], ((again - f_t) ** 2).mean())
    found = method.losses(student, (teacher,), None)
    assert list(found) == ["factor"]
    assert_near(found["factor"], naive_factor(run_layers(f_s, method.translator), factor_t, form == "paper"))


@pytest.mark.parametrize(("rate", "width"), [(0.5, 3), (0.75, 4), (1.0, 6)])
def test_layers_of_paraphraser_and_translator(rate, width):
    method, *_ = make_factor(ft_rate=rate)
    stacks = (method.paraphraser.encoder, method.paraphraser.decoder, method.translator)
    kinds = [[type(layer).__name__ for layer in stack] for stack in stacks]
    assert kinds == [
        ["Conv2d", "LeakyReLU"] * 3, ["ConvTranspose2d", "LeakyReLU"] * 3, ["Conv2d", "BatchNorm2d", "LeakyReLU"] * 3
    ]  # fmt: skip
    widths = [[(c.in_channels, c.out_channels) for c in stack if hasattr(c, "in_channels")] for stack in stacks]
    assert widths == [
        [(6, 6), (6, width), (width, width)], [(width, width), (width, 6), (6, 6)], [(4, 4), (4, width), (width, width)]
    ]  # fmt: skip


# --- two stages -----------------------------------------------------------------------------------


def test_the_paraphraser_stands_still_in_the_main_stage():
    method, student, teacher = make_factor()
    method.end_initial_stage()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    optimizer = torch.optim.AdamW(method.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        method.loss(student, teacher, None).backward()
        optimizer.step()
    moved = {key.split(".")[0] for key, value in method.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"translator"}
    assert {key.split(".")[0] for key, p in method.named_parameters() if p.requires_grad} == {"translator"}


@pytest.mark.parametrize(("name", "trains_student"), [("fsp", True), ("abound", True), ("factor", False)])
def test_the_initial_stage(name, trains_student):
    """Thirty epochs, on every parameter that is not for later, and (but for FT) on the student's features."""
    torch.manual_seed(0)
    of_s, of_t = shapes(((3, 4, 4), (4, 2, 2))), shapes(((3, 4, 4), (4 if name == "fsp" else 6, 2, 2)))
    method = create_method(name, Pair(of_s, (of_t,), 50)).double()
    assert method.initial_epochs == 30
    assert create_method(name, Pair(of_s, (of_t,), 50), {"init_epochs": 7}).initial_epochs == 7
    assert method.initial_trains_student is trains_student
    student, teacher = features(of_s, 1), features(of_t, 5)
    leaves = [f.requires_grad_() for f in (student.stem, *student.stages, *student.preacts)]
    sum(method.initial_losses(student if trains_student else None, (teacher,), None).values()).backward()
    assert any(leaf.grad is not None for leaf in leaves) is trains_student
    trained = {key.split(".")[0] for key, p in method.named_parameters() if p.grad is not None}
    assert trained == {"fsp": set(), "abound": {"connectors"}, "factor": {"paraphraser"}}[name]
    method.end_initial_stage()
    left = {key.split(".")[0] for key, p in method.named_parameters() if p.requires_grad}
    assert left == ({"translator"} if name == "factor" else set())
    if trains_student:
        assert method.losses(student, (teacher,), None) == {}  # and so β has no effect, as published


# --- gradients and degenerate inputs --------------------------------------------------------------

LOSSES = {
    "nst": (nst_loss, (2, 3, 3, 3), (2, 4, 2, 2)),
    "nst_by_positions": (nst_loss, (2, 7, 1, 2), (2, 6, 2, 2)),
    "neighbours": (neighbours_loss, (4, 3), (4, 3)),
    "congruence": (lambda s, t: congruence_loss(s, t, 0.4, 2), (4, 3), (4, 5)),
    "kdsvd": (lambda s, t: kdsvd_loss([s, s.flip(1)], [t, t.square()]), (2, 3, 2, 3), (2, 3, 3, 2)),
    "kdsvd_wide": (lambda s, t: kdsvd_loss([s, s.flip(1)], [t, t.square()]), (2, 5, 1, 3), (2, 5, 2, 2)),
    "fsp": (lambda s, t: fsp_loss([s, s[:, :2]], [t, t[:, :2]]), (2, 3, 4, 4), (2, 3, 2, 2)),
    "boundary": (boundary_loss, (2, 3, 2, 2), (2, 3, 2, 2)),
    "factor": (factor_loss, (2, 3, 4, 4), (2, 3, 2, 2)),
    "factor_whole": (lambda s, t: factor_loss(s, t, True), (2, 3, 2, 2), (2, 3, 4, 4)),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


@every_loss
def test_gradient(name):
    loss, shape_s, shape_t = LOSSES[name]
    student, teacher = normal(*shape_s, seed=1).requires_grad_(), normal(*shape_t, seed=2)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student,))


DEGENERATE = {
    "zeros": torch.zeros_like,
    "one sample of zeros": lambda x: torch.cat([torch.zeros_like(x[:1]), x[1:]]),
    "a channel of zeros": lambda x: torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:]], dim=1),
    "constant": torch.ones_like,
    "one channel again and again": lambda x: x[:, :1].expand_as(x).clone(),
    "saturated": lambda x: 50 * x.sign(),
    "tiny": lambda x: 1e-12 * x,
    "a batch of one": lambda x: x[:1],
}


@every_loss
@pytest.mark.parametrize("kind", DEGENERATE)
def test_losses_stay_finite(name, kind):
    loss, shape_s, shape_t = LOSSES[name]
    degrade = DEGENERATE[kind]
    student, teacher = normal(*shape_s, seed=1, dtype=torch.float32), normal(*shape_t, seed=2, dtype=torch.float32)
    odd_s, odd_t = degrade(student), degrade(teacher)
    for s, t in ((odd_s, odd_t), (odd_s, teacher[: len(odd_s)]), (student[: len(odd_t)], odd_t)):
        s = s.clone().requires_grad_()
        value = loss(s, t)
        value.backward()
        assert value.isfinite()
        assert s.grad.isfinite().all()


# --- what is published and what is refused --------------------------------------------------------

PUBLISHED = {
    "nst": (Weights(1, 0, 50), {}, ()),
    "correlation": (
        Weights(1, 0, 0.02), {"cc_form": "repdistiller", "feat_dim": 128, "cc_gamma": 0.4, "cc_order": 2}, ("cc",)
    ),
    "kdsvd": (Weights(1, 0, 1), {}, ()),
    "fsp": (Weights(1, 0, 50), {"init_epochs": 30, "fsp_main": False}, ()),
    "abound": (Weights(1, 0, 1), {"init_epochs": 30, "ab_bn": "frozen"}, ("ab",)),
    "factor": (Weights(1, 0, 200), {"init_epochs": 30, "ft_rate": 0.5, "ft_form": "repdistiller"}, ("ft",)),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values(name):
    weights, options, aliases = PUBLISHED[name]
    assert METHODS[name].weights == weights
    assert {option: parameter.default for option, parameter in options_of(name).items()} == options
    assert all(METHODS[alias] is METHODS[name] for alias in aliases)


REFUSALS = [
    ("correlation", {"feat_dim": 0}, "--feat_dim is 0; it must be positive"),
    ("correlation", {"cc_gamma": -1.0}, "--cc_gamma is -1.0; it must be positive"),
    ("correlation", {"cc_order": 0}, "--cc_order is 0; it must be positive"),
    ("abound", {"init_epochs": 0}, "--init_epochs is 0; abound teaches in its initial stage, give 1 or more"),
    ("factor", {"init_epochs": 0}, "--init_epochs is 0; the paraphraser has to be trained, give 1 or more"),
    ("factor", {"ft_rate": 0.01}, "--ft_rate 0.01 of 5 channels is none; give 0.5, say"),
    (
        "fsp",
        {"init_epochs": 0},
        "--init_epochs is 0; fsp teaches in its initial stage, so give 1 or more, or --fsp_main",
    ),
    ("fsp", {"init_epochs": -1, "fsp_main": True}, "--init_epochs is -1"),
]


@pytest.mark.parametrize(("name", "options", "sentence"), REFUSALS)
def test_refused_options(name, options, sentence):
    with pytest.raises(RequestError, match=sentence):
        create_method(name, Pair(shapes(), (shapes(),), 50), options)


REFUSED_PAIRS = [
    ("fsp", ((3, 4, 4), (6, 2, 2)), r"stem and stages of student \(2-3-5\) and teacher \(2-3-6\) must be equally wide"),
    ("fsp", ((3, 4, 4),), r"student \(2-3-5\) and teacher \(2-3\) must"),
    ("kdsvd", ((4, 4, 4), (5, 2, 2)), r"the stages of student \(3-5\) and teacher \(4-5\) must be equally wide"),
    ("kdsvd", ((5, 4, 4),), "kdsvd relates neighbouring stages, and one of the networks has one; choose a deeper one"),
]


@pytest.mark.parametrize(("name", "stages", "sentence"), REFUSED_PAIRS)
def test_refused_pairs(name, stages, sentence):
    with pytest.raises(RequestError, match=sentence):
        create_method(name, Pair(shapes(), (shapes(stages),), 50))


@pytest.mark.parametrize(
    ("teacher", "student", "works"),
    [
        ("resnet56", "resnet20", True),
        ("wrn_40_2", "wrn_16_2", True),
        ("vgg13", "vgg8", True),
        ("mixer_nano", "mixer_nano", True),
        ("wrn_40_2", "wrn_40_1", False),  # N/A in the published table
        ("resnet32x4", "ShuffleV1", False),
    ],
)
@pytest.mark.parametrize("name", ["fsp", "kdsvd"])
def test_which_published_pairs_work(name, teacher, student, works):
    pair = Pair(of_network(student), (of_network(teacher),), 50)
    if works:
        create_method(name, pair)
    else:
        with pytest.raises(RequestError, match="must be equally wide"):
            create_method(name, pair)


def of_network(model):
    return create_model(model, 100, 32).feature_shapes()
