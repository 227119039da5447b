"""Each loss against its formula by plain loops in NumPy; its gradient; what it keeps under change of input."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from distiller_zoo import create_method
from distiller_zoo.attention import attention_loss
from distiller_zoo.crd import nce_loss
from distiller_zoo.hint import Hint
from distiller_zoo.kd import kd_loss
from distiller_zoo.maps import Regressor, pair_stages, to_common_size
from distiller_zoo.method import Pair
from distiller_zoo.pkt import neighbour_probabilities, pkt_loss
from distiller_zoo.rkd import RKD, angle_loss, angles, distance_loss, relative_distances
from distiller_zoo.similarity import similarity_loss, similarity_matrix
from distiller_zoo.std import hard_label_losses
from distiller_zoo.teacher_mixture import confidence_weights
from distiller_zoo.vid import VID, VariationalRegressor, gaussian_nll
from models import Features, FeatureShapes
from tests.numerics import arrays, assert_near, every_dtype, normal, seeds

few = partial(settings, deadline=None, max_examples=25)


# --- the formulas ---------------------------------------------------------------------------------


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def naive_kd(logits_s, logits_t, temperature):
    total = 0.0
    for row_s, row_t in zip(logits_s / temperature, logits_t / temperature, strict=True):
        for p_s, p_t in zip(softmax(row_s), softmax(row_t), strict=True):
            total += p_t * math.log(p_t / p_s)
    return temperature**2 * total / len(logits_s)


def naive_pool(maps, height, width):
    """Adaptive average: cell i covers the rows from floor(i·H/h) to ceil((i+1)·H/h)."""
    batch, channels, high, wide = maps.shape
    pooled = np.zeros((batch, channels, height, width))
    for i in range(height):
        for j in range(width):
            rows = slice(math.floor(i * high / height), math.ceil((i + 1) * high / height))
            columns = slice(math.floor(j * wide / width), math.ceil((j + 1) * wide / width))
            cell = maps[:, :, rows, columns]
            pooled[:, :, i, j] = cell.sum(axis=(2, 3)) / (cell.shape[2] * cell.shape[3])
    return pooled


def naive_common(a, b):
    height, width = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    return naive_pool(a, height, width), naive_pool(b, height, width)


def naive_attention(f_s, f_t):
    total, entries = 0.0, 0
    for sample_s, sample_t in zip(*naive_common(f_s, f_t), strict=True):
        maps = []
        for sample in (sample_s, sample_t):
            energy = sum(channel**2 for channel in sample) / len(sample)
            maps.append(energy / math.sqrt((energy**2).sum()))
        total += ((maps[0] - maps[1]) ** 2).sum()
        entries += maps[0].size
    return total / entries


def naive_similarity(f_s, f_t):
    batch, matrices = len(f_s), []
    for maps in (f_s, f_t):
        matrix = np.array([[(a * b).sum() for b in maps] for a in maps])
        for row in matrix:
            row /= math.sqrt((row**2).sum())
        matrices.append(matrix)
    return ((matrices[1] - matrices[0]) ** 2).sum() / batch**2


def huber(difference):
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def naive_distance(e_s, e_t):
    batch, relative = len(e_s), []
    for e in (e_s, e_t):
        distances = [[math.sqrt(((a - b) ** 2).sum()) for b in e] for a in e]
        positive = [d for row in distances for d in row if d > 0]
        relative.append([[d / (sum(positive) / len(positive)) for d in row] for row in distances])
    cells = [(i, j) for i in range(batch) for j in range(batch)]
    return sum(huber(relative[0][i][j] - relative[1][i][j]) for i, j in cells) / batch**2


def naive_cosine(e, i, j, k):
    """Of the angle at i between the ways to j and to k; zero where there is no angle."""
    to_j, to_k = e[j] - e[i], e[k] - e[i]
    lengths = math.sqrt((to_j**2).sum()) * math.sqrt((to_k**2).sum())
    return (to_j * to_k).sum() / lengths if lengths else 0.0


def naive_angle(e_s, e_t):
    batch = range(len(e_s))
    triples = [(i, j, k) for i in batch for j in batch for k in batch]
    return sum(huber(naive_cosine(e_s, *t) - naive_cosine(e_t, *t)) for t in triples) / len(triples)


def naive_pkt(e_s, e_t, eps=1e-7):
    batch, probabilities = len(e_s), []
    for e in (e_s, e_t):
        lengths = [math.sqrt((row**2).sum()) + eps for row in e]
        kernel = [[((e[i] * e[j]).sum() / lengths[i] / lengths[j] + 1) / 2 for j in range(batch)] for i in range(batch)]
        probabilities.append([[cell / sum(row) for cell in row] for row in kernel])
    total = 0.0
    for row_s, row_t in zip(*probabilities, strict=True):
        total += sum(p_t * math.log((p_t + eps) / (p_s + eps)) for p_s, p_t in zip(row_s, row_t, strict=True))
    return total / batch**2


def naive_gaussian(mean, target, variance):
    total = 0.0
    for index in np.ndindex(mean.shape):
        v = variance[index[1]]
        total += 0.5 * ((mean[index] - target[index]) ** 2 / v + math.log(v))
    return total / mean.size


def naive_nce(positive, negative, drawn, k, n):
    total = 0.0
    for i in range(len(positive)):
        total += math.log(positive[i] / (positive[i] + k / n + 1e-7))
        total += sum(math.log((k / n) / (p + k / n + 1e-7)) for p, d in zip(negative[i], drawn[i], strict=True) if d)
    return -total / len(positive)


# --- values ---------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("shape", [(1, 2), (5, 10), (3, 100)])
def test_kd(shape, temperature, dtype):
    logits = 3 * normal(*shape, seed=1, dtype=dtype), 3 * normal(*shape, seed=2, dtype=dtype)
    assert_near(kd_loss(*logits, temperature), naive_kd(*arrays(*logits), temperature))


MAP_SHAPES = [
    ((2, 3, 4, 4), (2, 3, 4, 4)),
    ((3, 4, 4, 4), (3, 6, 8, 8)),  # the teacher is pooled
    ((2, 5, 8, 8), (2, 2, 4, 4)),  # the student is pooled
    ((2, 2, 7, 7), (2, 3, 3, 3)),  # cells that overlap
    ((2, 2, 6, 3), (2, 3, 4, 5)),  # each is pooled in one direction
    ((1, 4, 1, 1), (1, 2, 2, 2)),
]


@every_dtype
@pytest.mark.parametrize(("shape_s", "shape_t"), MAP_SHAPES)
def test_attention(shape_s, shape_t, dtype):
    maps = normal(*shape_s, seed=1, dtype=dtype), normal(*shape_t, seed=2, dtype=dtype)
    assert_near(attention_loss(*maps), naive_attention(*arrays(*maps)))


@every_dtype
@pytest.mark.parametrize(("shape_s", "shape_t"), MAP_SHAPES)
def test_similarity(shape_s, shape_t, dtype):
    maps = normal(*shape_s, seed=1, dtype=dtype), normal(*shape_t, seed=2, dtype=dtype)
    assert_near(similarity_loss(*maps), naive_similarity(*arrays(*maps)))


@pytest.mark.parametrize(("shape_s", "shape_t"), MAP_SHAPES)
def test_common_size_is_that_of_the_smaller(shape_s, shape_t):
    maps = normal(*shape_s, seed=1), normal(*shape_t, seed=2)
    for found, expected in zip(to_common_size(*maps), naive_common(*arrays(*maps)), strict=True):
        assert_near(found, expected)


EMBEDDINGS = [(2, 3, 3), (5, 4, 7), (9, 16, 2)]  # samples, width of the student, width of the teacher
EMBEDDING_LOSSES = {
    "rkd_distance": (distance_loss, naive_distance),
    "rkd_angle": (angle_loss, naive_angle),
    "pkt": (pkt_loss, naive_pkt),
}
every_embedding_loss = pytest.mark.parametrize("name", EMBEDDING_LOSSES)


@every_dtype
@every_embedding_loss
@pytest.mark.parametrize(("batch", "width_s", "width_t"), EMBEDDINGS)
def test_embedding_losses(name, batch, width_s, width_t, dtype):
    loss, naive = EMBEDDING_LOSSES[name]
    e = normal(batch, width_s, seed=1, dtype=dtype), normal(batch, width_t, seed=2, dtype=dtype)
    assert_near(loss(*e), naive(*arrays(*e)))


def test_huber_turns_linear_beyond_one():
    """Five points in one place and one far off: relative distances that differ by more than 1."""
    e_s, e_t = normal(6, 3, seed=1), 0.001 * normal(6, 3, seed=2)
    e_t[0] += 1000
    assert (relative_distances(e_s) - relative_distances(e_t)).abs().max() > 1.5
    assert_near(distance_loss(e_s, e_t), naive_distance(*arrays(e_s, e_t)))


def test_rkd_weighs_its_parts_by_25_and_50():
    shapes = FeatureShapes(10, 4, (3, 4, 4), (), ())
    student, teacher = (Features(normal(5, 10), normal(5, 4, seed=seed)) for seed in (1, 2))
    e = arrays(student.embedding, teacher.embedding)
    losses = RKD(Pair(shapes, (shapes,), 50)).losses(student, (teacher,), None)
    assert set(losses) == {"rkd_distance", "rkd_angle"}
    assert_near(losses["rkd_distance"], 25 * naive_distance(*e))
    assert_near(losses["rkd_angle"], 50 * naive_angle(*e))


@every_dtype
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 4), (3, 5, 2, 3)])
def test_gaussian_nll(shape, dtype):
    mean, target = normal(*shape, seed=1, dtype=dtype), normal(*shape, seed=2, dtype=dtype)
    variance = normal(shape[1], seed=3, dtype=dtype).exp()
    assert_near(gaussian_nll(mean, target, variance), naive_gaussian(*arrays(mean, target, variance)))


@every_dtype
def test_nce(dtype):
    positive, negative = normal(4, seed=1, dtype=dtype).exp(), normal(4, 9, seed=2, dtype=dtype).exp()
    drawn = torch.rand(4, 9, generator=torch.Generator().manual_seed(3)).argsort(dim=1) < 5
    expected = naive_nce(*arrays(positive, negative), drawn.tolist(), 5, 60)
    assert_near(nce_loss(positive, negative, drawn, 5, 60), expected)


@every_dtype
def test_hard_label_losses(dtype):
    student, teacher = normal(6, 5, seed=1, dtype=dtype), normal(6, 5, seed=2, dtype=dtype)
    expected = []
    for row_s, row_t in zip(*arrays(student, teacher), strict=True):
        expected.append(-math.log(softmax(row_s)[list(row_t).index(max(row_t))]))
    assert_near(hard_label_losses(student, teacher), expected)


@every_dtype
@pytest.mark.parametrize("teachers", [1, 2, 3])
def test_confidence_weights(teachers, dtype):
    logits = [2 * normal(4, 5, seed=seed, dtype=dtype) for seed in range(teachers)]
    expected = np.zeros((teachers, 4))
    for sample in range(4):
        rows = [softmax(array[sample]) for array in arrays(*logits)]
        expected[:, sample] = softmax([sum(p * math.log(p) for p in row) for row in rows])
    assert_near(confidence_weights(logits), expected)


# --- regressors -----------------------------------------------------------------------------------


def naive_convolution(x, weight, bias, stride=1, padding=0):
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    size = weight.shape[2]
    high = (x.shape[2] - size) // stride + 1
    out = np.zeros((len(x), len(weight), high, high))
    for b, c, i, j in np.ndindex(out.shape):
        window = x[b, :, i * stride : i * stride + size, j * stride : j * stride + size]
        out[b, c, i, j] = (window * weight[c]).sum() + bias[c]
    return out


def naive_transposed(x, weight, bias):
    """Kernel 4, stride 2, padding 1: each pixel is stamped on every second place of a larger map."""
    batch, _, high, wide = x.shape
    out = np.zeros((batch, weight.shape[1], 2 * high + 2, 2 * wide + 2))
    for b, c, i, j in np.ndindex(x.shape):
        out[b, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += x[b, c, i, j] * weight[c]
    return out[:, :, 1:-1, 1:-1] + bias[None, :, None, None]


def naive_bilinear(x, size):
    """Pixels are areas: the centre of output pixel i lies at (i + ½)·H/h − ½, held within the map."""
    high, out = x.shape[2], np.zeros((*x.shape[:2], size, size))
    places = [min(max((i + 0.5) * high / size - 0.5, 0), high - 1) for i in range(size)]
    for i, y in enumerate(places):
        for j, z in enumerate(places):
            for row, share in ((math.floor(y), 1 - y % 1), (math.ceil(y), y % 1)):
                for column, part in ((math.floor(z), 1 - z % 1), (math.ceil(z), z % 1)):
                    out[:, :, i, j] += share * part * x[:, :, row, column]
    return out


def naive_norm_and_relu(x, weight, bias):
    out = np.zeros_like(x)
    for c in range(x.shape[1]):
        values = x[:, c]
        mean = values.sum() / values.size
        variance = ((values - mean) ** 2).sum() / values.size
        out[:, c] = weight[c] * (values - mean) / math.sqrt(variance + 1e-5) + bias[c]
    return np.maximum(out, 0)


def naive_regressor(x, size, weight, bias):
    high = x.shape[2]
    if high == 2 * size:
        return naive_convolution(x, weight, bias, stride=2, padding=1)
    if 2 * high == size:
        return naive_transposed(x, weight, bias)
    if high >= size:
        return naive_convolution(x, weight, bias)
    return naive_convolution(naive_bilinear(x, size), weight, bias)


@every_dtype
@pytest.mark.parametrize(
    ("source", "target", "kernel"),
    [(8, 4, 3), (3, 6, 4), (5, 5, 1), (6, 2, 5), (7, 4, 4), (2, 8, 1), (4, 5, 1), (1, 1, 1), (2, 1, 3), (1, 2, 4)],
)
def test_hint_through_each_regressor(source, target, kernel, dtype):
    torch.manual_seed(0)
    size_s, size_t = (3, source, source), (4, target, target)
    student = FeatureShapes(10, 4, (3, 9, 9), ((3, 9, 9), size_s), ())
    teacher = FeatureShapes(10, 4, (4, 9, 9), ((4, 9, 9), size_t), ())
    hint = Hint(Pair(student, (teacher,), 50)).to(dtype)
    regressor = hint.regressor
    torch.nn.init.normal_(regressor.bn.weight)
    torch.nn.init.normal_(regressor.bn.bias)
    assert regressor.conv.weight.shape[2:] == (kernel, kernel)
    f_s, f_t = normal(3, *size_s, seed=1, dtype=dtype), normal(3, *size_t, seed=2, dtype=dtype)
    unread = f_s.new_full((), math.nan)
    found = hint.loss(
        Features(unread, None, unread, (unread, f_s)), Features(unread, None, unread, (unread, f_t)), None
    )
    conv, norm = arrays(regressor.conv.weight, regressor.conv.bias), arrays(regressor.bn.weight, regressor.bn.bias)
    x, y = arrays(f_s, f_t)
    expected = naive_norm_and_relu(naive_regressor(x, target, *conv), *norm)
    assert expected.shape == y.shape
    assert_near(found, ((expected - y) ** 2).sum() / y.size)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_hint_layer_counts_from_the_stem(layer):
    shapes = FeatureShapes(10, 4, (2, 8, 8), ((3, 8, 8), (4, 4, 4)), ())
    hint = Hint(Pair(shapes, (shapes,), 50), hint_layer=layer).double()
    maps = [normal(2, *shape, seed=layer) for shape in (shapes.stem, *shapes.stages)]
    features = Features(normal(2, 10), None, maps[0], tuple(maps[1:]))
    assert_near(hint.loss(features, features, None), F.mse_loss(hint.regressor(maps[layer]), maps[layer]).item())


def test_vid_starts_from_a_variance_of_five():
    regressor = VariationalRegressor(3, 4)
    np.testing.assert_allclose(F.softplus(regressor.log_scale.detach().double()).numpy() + 1e-5, 5.0, rtol=1e-6)


@every_dtype
def test_vid_through_its_regressors(dtype):
    """Three stages of which the first two differ in size: the sum of the stages' losses."""
    torch.manual_seed(0)
    shapes_s = FeatureShapes(10, 4, (2, 8, 8), ((2, 4, 4), (3, 4, 4), (4, 2, 2)), ())
    shapes_t = FeatureShapes(10, 4, (2, 8, 8), ((3, 8, 8), (5, 2, 2), (6, 2, 2)), ())
    vid = VID(Pair(shapes_s, (shapes_t,), 50)).to(dtype)
    for regressor in vid.regressors:
        torch.nn.init.normal_(regressor.log_scale)
    maps_s = tuple(normal(2, *shape, seed=1, dtype=dtype) for shape in shapes_s.stages)
    maps_t = tuple(normal(2, *shape, seed=2, dtype=dtype) for shape in shapes_t.stages)
    unread = torch.tensor(math.nan)
    expected = 0.0
    for regressor, f_s, f_t in zip(vid.regressors, maps_s, maps_t, strict=True):
        x, y = naive_common(*arrays(f_s, f_t))
        w1, w2, w3 = (w[:, :, 0, 0] for w in arrays(*(regressor.mean[i].weight for i in (0, 2, 4))))
        (rho,) = arrays(regressor.log_scale)
        mean = np.zeros_like(y)
        for b, i, j in np.ndindex(len(y), *y.shape[2:]):
            mean[b, :, i, j] = w3 @ np.maximum(w2 @ np.maximum(w1 @ x[b, :, i, j], 0), 0)
        expected += naive_gaussian(mean, y, [math.log(1 + math.exp(r)) + 1e-5 for r in rho])
    found = vid.loss(Features(unread, stages=maps_s), Features(unread, stages=maps_t), None)
    assert_near(found, expected)


def test_attention_similarity_and_pkt_read_their_own_parts_of_the_networks():
    """Two stages of the student and four of the teacher: the second and the last of these go with the student's."""
    shapes_s = FeatureShapes(10, 4, (3, 8, 8), ((3, 8, 8), (4, 4, 4)), ())
    shapes_t = FeatureShapes(10, 6, (2, 8, 8), ((2, 8, 8), (5, 8, 8), (6, 4, 4), (7, 2, 2)), ())
    student, teacher = (
        Features(
            normal(5, 10),
            normal(5, shapes.embedding, seed=seed),
            None,
            tuple(normal(5, *shape, seed=seed + i) for i, shape in enumerate(shapes.stages, 1)),
        )
        for shapes, seed in ((shapes_s, 10), (shapes_t, 20))
    )
    f_s, f_t = arrays(*student.stages), arrays(*teacher.stages)
    expected = {
        "attention": naive_attention(f_s[0], f_t[1]) + naive_attention(f_s[1], f_t[3]),
        "similarity": naive_similarity(f_s[1], f_t[3]),
        "pkt": naive_pkt(*arrays(student.embedding, teacher.embedding)),
    }
    for name, value in expected.items():
        method = create_method(name, Pair(shapes_s, (shapes_t,), 50))
        assert_near(method.loss(student, teacher, None), value)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (3, 3, [(0, 0), (1, 1), (2, 2)]),
        (3, 4, [(0, 1), (1, 2), (2, 3)]),
        (4, 3, [(1, 0), (2, 1), (3, 2)]),
        (2, 4, [(0, 1), (1, 3)]),
        (5, 3, [(1, 0), (3, 1), (4, 2)]),
        (1, 4, [(0, 3)]),
    ],
)
def test_stages_pair_at_the_same_relative_depth(student, teacher, expected):
    assert pair_stages(student, teacher) == expected


# --- gradients ------------------------------------------------------------------------------------


def drawn_mask(batch, width, k):
    return torch.arange(width).expand(batch, width) < k


GRADIENTS = {
    "kd": (lambda s, t: kd_loss(s, t, 4.0), (3, 5), (3, 5)),
    "attention": (attention_loss, (2, 3, 4, 4), (2, 2, 2, 2)),
    "similarity": (similarity_loss, (3, 2, 2, 2), (3, 4, 1, 1)),
    "rkd_distance": (distance_loss, (4, 3), (4, 5)),
    "rkd_angle": (angle_loss, (4, 3), (4, 5)),
    "pkt": (pkt_loss, (4, 3), (4, 5)),
    "vid": (lambda mean, target: gaussian_nll(mean, target, torch.tensor([0.5, 2.0])), (2, 2, 3, 3), (2, 2, 3, 3)),
    "vid_variance": (lambda v, x: gaussian_nll(x[0], x[1], v.exp()), (2,), (2, 3, 2, 2, 2)),
    "nce": (lambda p, q: nce_loss(p.exp(), q.exp(), drawn_mask(3, 6, 4), 4, 50), (3,), (3, 6)),
    "hard_label": (lambda s, t: hard_label_losses(s, t.detach()), (3, 5), (3, 5)),
    "confidence": (lambda a, b: confidence_weights([a, b]), (3, 5), (3, 5)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient(name):
    loss, shape_a, shape_b = GRADIENTS[name]
    a, b = normal(*shape_a, seed=1).requires_grad_(), normal(*shape_b, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(loss, (a, b))


@pytest.mark.parametrize("sizes", [(8, 4), (2, 4), (5, 3), (2, 5)])
def test_gradient_through_the_regressor(sizes):
    torch.manual_seed(0)
    regressor = Regressor((2, sizes[0], sizes[0]), (2, sizes[1], sizes[1])).double()
    torch.nn.init.constant_(regressor.bn.bias, 4)  # away from the kink of ReLU
    x = normal(2, 2, sizes[0], sizes[0]).requires_grad_()
    assert torch.autograd.gradcheck(regressor, (x,))


# --- properties -----------------------------------------------------------------------------------

batches = st.integers(2, 7)
widths = st.integers(2, 9)


@few()
@given(seed=seeds, batch=batches, classes=st.integers(2, 20), temperature=st.floats(0.5, 20), scale=st.floats(0, 50))
def test_kd_is_never_negative_and_zero_for_equal_logits(seed, batch, classes, temperature, scale):
    a, b = scale * normal(batch, classes, seed=seed), scale * normal(batch, classes, seed=seed + 1)
    assert kd_loss(a, b, temperature) >= -1e-12
    assert abs(kd_loss(a, a, temperature)) < 1e-12
    assert abs(kd_loss(a + 3, a, temperature)) < 1e-9  # softmax knows no common shift


@few()
@given(seed=seeds, batch=batches, channels=widths, size=st.integers(1, 4))
def test_map_losses_are_zero_for_equal_maps_and_positive_otherwise(seed, batch, channels, size):
    f, other = normal(batch, channels, size, size, seed=seed), normal(batch, channels, size, size, seed=seed + 1)
    for loss in (attention_loss, similarity_loss):
        assert abs(loss(f, f)) < 1e-15
        assert abs(loss(2.5 * f, f)) < 1e-15  # and both forget the scale
    assert similarity_loss(other, f) > 0
    assert attention_loss(other, f) > 0 or size == 1  # a map of one pixel is 1 whatever its value


@few()
@given(seed=seeds, batch=batches, width=widths)
def test_embedding_losses_are_least_for_equal_embeddings(seed, batch, width):
    e, other = normal(batch, width, seed=seed), normal(batch, width, seed=seed + 1)
    for loss, _ in EMBEDDING_LOSSES.values():
        assert abs(loss(e, e)) < 1e-15
        assert loss(other, e) > -1e-7


@few()
@given(seed=seeds, batch=batches, width=widths, scale=st.floats(0.1, 1000))
def test_embedding_losses_forget_the_scale(seed, batch, width, scale):
    e_s, e_t = normal(batch, width, seed=seed), normal(batch, width, seed=seed + 1)
    for loss, _ in EMBEDDING_LOSSES.values():
        torch.testing.assert_close(loss(scale * e_s, e_t), loss(e_s, e_t), rtol=1e-4, atol=1e-6)


@few()
@given(seed=seeds, batch=batches, width=widths)
def test_rkd_forgets_where_the_embeddings_lie_and_how_they_are_turned(seed, batch, width):
    e_s, e_t = normal(batch, width, seed=seed), normal(batch, width, seed=seed + 1)
    turn = torch.linalg.qr(normal(width, width, seed=seed + 2)).Q
    moved = e_s @ turn + normal(width, seed=seed + 3)
    for loss in (distance_loss, angle_loss):
        torch.testing.assert_close(loss(moved, e_t), loss(e_s, e_t), rtol=1e-6, atol=1e-9)


@few()
@given(seed=seeds, batch=batches, width=widths, data=st.data())
def test_relations_follow_a_permutation_of_the_batch(seed, batch, width, data):
    order = torch.tensor(data.draw(st.permutations(range(batch))))
    e, other = normal(batch, width, seed=seed), normal(batch, width, seed=seed + 1)
    for relation in (neighbour_probabilities, similarity_matrix, relative_distances):
        torch.testing.assert_close(relation(e[order]), relation(e)[order][:, order])
    torch.testing.assert_close(angles(e[order]), angles(e)[order][:, order][:, :, order])
    for loss in (pkt_loss, similarity_loss, distance_loss, angle_loss):
        torch.testing.assert_close(loss(e[order], other[order]), loss(e, other))


@few()
@given(seed=seeds, batch=batches, width=widths)
def test_neighbour_probabilities_are_probabilities(seed, batch, width):
    p = neighbour_probabilities(normal(batch, width, seed=seed))
    assert (p >= 0).all()
    torch.testing.assert_close(p.sum(dim=1), torch.ones(batch, dtype=p.dtype))


@few()
@given(seed=seeds, batch=batches, width=widths)
def test_similarities_have_rows_of_unit_length(seed, batch, width):
    lengths = similarity_matrix(normal(batch, width, seed=seed)).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(batch, dtype=lengths.dtype))


# --- where formulas divide by zero ----------------------------------------------------------------


def with_zero_row(x):
    return torch.cat([torch.zeros_like(x[:1]), x[1:]])


DEGENERATE = {
    "zeros": torch.zeros_like,
    "one zero": with_zero_row,
    "identical": lambda x: x[:1].expand_as(x).clone(),
    "two identical": lambda x: torch.cat([x[:1], x[:1], x[2:]]),
    "opposite": lambda x: torch.cat([x[:1], -x[:1], x[2:]]),
    "a batch of one": lambda x: x[:1],
    "a batch of two, opposite": lambda x: torch.cat([x[:1], -x[:1]]),
    "large": lambda x: 1e4 * x.sign(),
    "tiny": lambda x: 1e-12 * x,
}
every_degenerate_input = pytest.mark.parametrize("kind", DEGENERATE)


def assert_finite_with_gradient(loss, student, teacher):
    student = student.clone().requires_grad_()
    value = loss(student, teacher)
    value.sum().backward()
    assert value.isfinite().all()
    assert student.grad.isfinite().all()


@every_degenerate_input
@every_embedding_loss
def test_embedding_losses_stay_finite(name, kind):
    loss = EMBEDDING_LOSSES[name][0]
    for seed in range(20):
        e, other = normal(6, 64, seed=seed, dtype=torch.float32), normal(6, 64, seed=seed + 99, dtype=torch.float32)
        odd = DEGENERATE[kind](e)
        other = other[: len(odd)]
        for student, teacher in ((odd, other), (other, odd), (odd, odd)):
            assert_finite_with_gradient(loss, student, teacher)


@every_degenerate_input
@pytest.mark.parametrize("loss", [attention_loss, similarity_loss])
def test_map_losses_stay_finite(loss, kind):
    f, other = normal(4, 3, 4, 4, seed=1, dtype=torch.float32), normal(4, 5, 2, 2, seed=2, dtype=torch.float32)
    odd = DEGENERATE[kind](f)
    other = other[: len(odd)]
    for student, teacher in ((odd, other), (other, odd), (odd, odd)):
        assert_finite_with_gradient(loss, student, teacher)


def one_hot_logits(batch=4, classes=5, size=1e4):
    logits = torch.full((batch, classes), -size)
    logits[torch.arange(batch), torch.arange(batch) % classes] = size
    return logits


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_stays_finite_for_one_hot_predictions(temperature):
    sharp, soft = one_hot_logits(), normal(4, 5, dtype=torch.float32)
    for student, teacher in ((sharp, soft), (soft, sharp), (sharp, sharp), (sharp, -sharp), (sharp, sharp.roll(1, 1))):
        assert_finite_with_gradient(lambda s, t: kd_loss(s, t, temperature), student, teacher)


def test_kd_of_opposite_one_hot_predictions_is_the_gap_of_the_logits():
    """All of the teacher's probability lies where the student's logit is 20,000 below its best."""
    sharp = one_hot_logits()
    assert kd_loss(sharp, sharp.roll(1, 1), 1.0).item() == pytest.approx(2e4)


def test_std_losses_stay_finite_for_one_hot_teachers():
    sharp, soft = one_hot_logits(), normal(4, 5, dtype=torch.float32)
    for teachers in ([sharp, soft], [sharp, sharp], [sharp, -sharp]):
        weights = confidence_weights(teachers)
        assert weights.isfinite().all()
        torch.testing.assert_close(weights.sum(dim=0), torch.ones(4))
    assert_finite_with_gradient(hard_label_losses, sharp, -sharp)


def test_nce_stays_finite_for_vanishing_and_large_scores():
    drawn = drawn_mask(2, 4, 3)
    for positive, negative in ((1e-30, 1e30), (1e30, 1e-30), (1e-30, 1e-30)):
        p, q = torch.full((2,), positive), torch.full((2, 4), negative)
        assert_finite_with_gradient(lambda p, q: nce_loss(p, q, drawn, 3, 100), p, q)
