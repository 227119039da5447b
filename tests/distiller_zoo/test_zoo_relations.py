"""Methods that compare samples, within a batch or with a memory: icd, rrd, crd_queue, crd_batch, itrd, ega.

Each loss against its formula by plain loops in NumPy, its gradient, what is known of its value, and its memory.
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from common.errors import RequestError
from dataset import Batch
from distiller_zoo import METHODS, Pair, create_method, options_of
from distiller_zoo.crd_batch import batch_contrast
from distiller_zoo.crd_queue import queue_contrast
from distiller_zoo.ega import correlations, edge_loss, node_loss
from distiller_zoo.icd import contrastive_loss, invariance_loss
from distiller_zoo.itrd import channel_correlations, correlation_loss, mutual_loss
from distiller_zoo.queues import EmbeddingQueue
from distiller_zoo.rrd import relational_loss
from models import Features, FeatureShapes
from tests.numerics import arrays, assert_near, every_dtype, normal

NAMES = ("icd", "rrd", "crd_queue", "crd_batch", "itrd", "ega")
WEIGHTS = {
    "icd": (1, 0, 1),
    "rrd": (1, 0, 1),
    "crd_queue": (1, 0, 0.8),
    "crd_batch": (1, 0, 0.8),
    "itrd": (1, 0, 1),
    "ega": (1, 0, 1),
}
OPTIONS = {
    "icd": {"feat_dim": 128, "icd_alpha": 0.5},
    "rrd": {
        "feat_dim": 128, "nce_k": 16384, "nce_t_s": 0.04, "nce_t_t": 0.1, "memory_type": "fifo", "nce_m": 0.5
    },
    "crd_queue": {"feat_dim": 128, "nce_k": 16384, "nce_t": 0.07},
    "crd_batch": {"feat_dim": 128, "nce_t": 0.07},
    "itrd": {"itrd_corr": 2.0, "itrd_mutual": 0.05, "itrd_alpha": 1.5},
    "ega": {"ega_node": 0.8, "ega_edge": 0.24},
}  # fmt: skip
every_name = pytest.mark.parametrize("name", NAMES)
few = partial(settings, deadline=None, max_examples=40)


def unit(*shape, seed=0, dtype=torch.float64):
    return F.normalize(normal(*shape, seed=seed)).to(dtype)


def make(name, width_s=5, width_t=6, num_samples=50, seed=0, **options):
    """A method in double precision for embeddings of these widths."""
    torch.manual_seed(seed)
    shapes = [FeatureShapes(4, width, (3, 4, 4), (), ()) for width in (width_s, width_t)]
    return create_method(name, Pair(shapes[0], (shapes[1],), num_samples), options).double()


def make_batch(size, step=0, index=None):
    index = torch.arange(size) if index is None else torch.as_tensor(index)
    return Batch(torch.zeros(len(index), 3, 1, 1), index % 4, index, None, 1, step, 7)


def losses_of(method, e_s, e_t, batch=None):
    features = [Features(torch.zeros(len(e), 4), e) for e in (e_s, e_t)]
    return method.losses(features[0], (features[1],), batch or make_batch(len(e_s)))


def embedded(layer, e):
    """Unit rows of a linear layer's output, in NumPy."""
    rows = e.numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    return np.array([row / math.sqrt((row**2).sum()) for row in rows])


# --- the formulas ---------------------------------------------------------------------------------


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def naive_contrastive(scores):
    return -sum(math.log(softmax(row)[i]) for i, row in enumerate(scores)) / len(scores)


def naive_invariance(scores):
    total, batch = 0.0, len(scores)
    for i in range(batch):
        of_student = softmax([scores[i][j] for j in range(batch)])
        of_teacher = softmax([scores[j][i] for j in range(batch)])
        total += sum(q * math.log(q / p) for p, q in zip(of_student, of_teacher, strict=True))
    return total / batch


def naive_relational(z_s, z_t, memory, student_t, teacher_t):
    total = 0.0
    for row_s, row_t in zip(z_s, z_t, strict=True):
        p_s = softmax([(row_s * m).sum() / student_t for m in memory])
        p_t = softmax([(row_t * m).sum() / teacher_t for m in memory])
        total -= sum(t * math.log(s) for s, t in zip(p_s, p_t, strict=True))
    return total / len(z_s)


def naive_queue_contrast(z_s, z_t, queue, same, temperature):
    total = 0.0
    for row_s, row_t, own in zip(z_s, z_t, same, strict=True):
        positive = math.exp((row_s * row_t).sum() / temperature)
        negative = sum(
            math.exp((row_s * q).sum() / temperature) for q, mine in zip(queue, own, strict=True) if not mine
        )
        total -= math.log(positive / (positive + negative))
    return total / len(z_s)


def naive_batch_contrast(z_s, z_t, temperature):
    return naive_contrastive([[(a * b).sum() / temperature for b in z_t] for a in z_s])


def naive_correlation_loss(e_s, e_t, alpha):
    batch, total = len(e_s), 0.0
    for d in range(e_s.shape[1]):
        rows = []
        for e in (e_s, e_t):
            mean = sum(e[:, d]) / batch
            deviation = math.sqrt(sum((value - mean) ** 2 for value in e[:, d]) / (batch - 1))
            rows.append([(value - mean) / deviation for value in e[:, d]])
        c = sum(s * t for s, t in zip(*rows, strict=True)) / batch
        total += abs(c - 1) ** (2 * alpha)
    return math.log2(total)


def naive_mutual_loss(e_s, e_t):
    grams = []
    for e in (e_s, e_t):
        lengths = [math.sqrt((row**2).sum()) for row in e]
        grams.append(np.array([[(a * b).sum() / m / n for b, n in zip(e, lengths, strict=True)]
                               for a, m in zip(e, lengths, strict=True)]))  # fmt: skip
    joint = grams[0] * grams[1]
    return ((grams[0] / np.trace(grams[0])) ** 2).sum() - ((joint / np.trace(joint)) ** 2).sum()


def naive_correlations(a, b):
    return np.array([[np.corrcoef(row, other)[0, 1] for other in b] for row in a])


def naive_node(e_s, e_t):
    return math.sqrt(((naive_correlations(e_s, e_t) - np.eye(len(e_s))) ** 2).sum())


def naive_edge(e_s, e_t):
    return math.sqrt(((naive_correlations(e_s, e_s) - naive_correlations(e_t, e_t)) ** 2).sum())


# --- values ---------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_icd_losses(batch, dtype):
    scores = 3 * normal(batch, batch, dtype=dtype)
    assert_near(contrastive_loss(scores), naive_contrastive(*arrays(scores)))
    assert_near(invariance_loss(scores), naive_invariance(*arrays(scores)))


@every_dtype
@pytest.mark.parametrize(("batch", "width", "memory"), [(1, 3, 1), (4, 5, 9), (7, 2, 30)])
def test_relational_loss(batch, width, memory, dtype):
    z = unit(batch, width, seed=1, dtype=dtype), unit(batch, width, seed=2, dtype=dtype)
    rows = unit(memory, width, seed=3, dtype=dtype)
    for temperatures in ((0.1, 0.02), (0.04, 0.1)):
        expected = naive_relational(*arrays(*z, rows), *temperatures)
        assert_near(relational_loss(*z, rows, *temperatures), expected)


@every_dtype
@pytest.mark.parametrize(("batch", "width", "length"), [(1, 3, 1), (4, 5, 9), (7, 2, 30)])
def test_queue_contrast(batch, width, length, dtype):
    z = unit(batch, width, seed=1, dtype=dtype), unit(batch, width, seed=2, dtype=dtype)
    queue, same = unit(length, width, seed=3, dtype=dtype), normal(batch, length, seed=4) > 0.5
    expected = naive_queue_contrast(*arrays(*z, queue), same.tolist(), 0.07)
    assert_near(queue_contrast(*z, queue, same, 0.07), expected)


@every_dtype
@pytest.mark.parametrize(("batch", "width"), [(1, 3), (4, 5), (9, 2)])
def test_batch_contrast(batch, width, dtype):
    z = unit(batch, width, seed=1, dtype=dtype), unit(batch, width, seed=2, dtype=dtype)
    assert_near(batch_contrast(*z, 0.07), naive_batch_contrast(*arrays(*z), 0.07))


@every_dtype
@pytest.mark.parametrize("alpha", [1.01, 1.5])
@pytest.mark.parametrize(("batch", "width"), [(2, 1), (5, 3), (16, 7)])
def test_itrd_correlation(batch, width, alpha, dtype):
    e = normal(batch, width, seed=1, dtype=dtype), 2 + 3 * normal(batch, width, seed=2, dtype=dtype)
    assert_near(correlation_loss(*e, alpha), naive_correlation_loss(*arrays(*e), alpha))


@every_dtype
@pytest.mark.parametrize(("batch", "width_s", "width_t"), [(1, 2, 3), (5, 3, 3), (8, 4, 9)])
def test_itrd_mutual(batch, width_s, width_t, dtype):
    e = normal(batch, width_s, seed=1, dtype=dtype), normal(batch, width_t, seed=2, dtype=dtype)
    assert_near(mutual_loss(*e), naive_mutual_loss(*arrays(*e)))


@every_dtype
@pytest.mark.parametrize(("batch", "width"), [(1, 3), (5, 4), (6, 11)])
def test_ega_losses(batch, width, dtype):
    e = normal(batch, width, seed=1, dtype=dtype), 1 + normal(batch, width, seed=2, dtype=dtype)
    assert_near(node_loss(*e), naive_node(*arrays(*e)))
    wider = normal(batch, width + 2, seed=3, dtype=dtype)
    assert_near(edge_loss(e[0], wider), naive_edge(*arrays(e[0], wider)))


# --- gradients ------------------------------------------------------------------------------------

QUEUE, SAME = unit(6, 4, seed=9), torch.eye(3, 6, dtype=torch.bool)
GRADIENTS = {
    "icd_contrast": (contrastive_loss, [(4, 4)]),
    "icd_invariance": (invariance_loss, [(4, 4)]),
    "rrd": (lambda s, t: relational_loss(s, t, QUEUE, 0.1, 0.3), [(3, 4), (3, 4)]),
    "crd_queue": (lambda s, t: queue_contrast(s, t, QUEUE, SAME, 0.5), [(3, 4), (3, 4)]),
    "crd_batch": (lambda s, t: batch_contrast(s, t, 0.5), [(3, 4), (3, 4)]),
    "itrd_corr": (lambda s, t: correlation_loss(s, t, 1.5), [(5, 3), (5, 3)]),
    "itrd_mutual": (mutual_loss, [(4, 3), (4, 5)]),
    "ega_node": (node_loss, [(3, 4), (3, 4)]),
    "ega_edge": (edge_loss, [(3, 4), (3, 5)]),
}


@pytest.mark.parametrize("case", GRADIENTS)
def test_gradient_by_differences(case):
    loss, shapes = GRADIENTS[case]
    inputs = [normal(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes, start=1)]
    assert torch.autograd.gradcheck(loss, inputs)


# --- known values ---------------------------------------------------------------------------------


def test_icd_of_equal_scores():
    scores = torch.zeros(5, 5, dtype=torch.float64)
    assert_near(contrastive_loss(scores), math.log(5))
    assert_near(invariance_loss(scores), 0)


def test_icd_invariance_is_zero_for_symmetric_scores():
    scores = normal(6, 6)
    assert_near(invariance_loss(scores + scores.T), 0)
    assert invariance_loss(scores) > 0.01


def test_relational_loss_ends_at_the_teachers_entropy():
    z, memory = unit(4, 5, seed=1), unit(9, 5, seed=2)
    p = (z @ memory.T / 0.1).softmax(dim=1)
    assert_near(relational_loss(z, z, memory, 0.1, 0.1), -(p * p.log()).sum(dim=1).mean().item())
    other = relational_loss(unit(4, 5, seed=3), z, memory, 0.1, 0.1)
    assert other > relational_loss(z, z, memory, 0.1, 0.1)


def test_contrast_of_orthogonal_samples():
    """Each positive has cosine 1, each negative 0."""
    z = torch.eye(4, dtype=torch.float64)
    expected = math.log1p(3 * math.exp(-1 / 0.07))
    assert_near(batch_contrast(z, z, 0.07), expected)
    others = torch.eye(4, dtype=torch.float64)[[1, 2, 3]]
    assert_near(queue_contrast(z[:1], z[:1], others, torch.zeros(1, 3, dtype=torch.bool), 0.07), expected)


def test_a_queue_of_own_images_holds_no_negative():
    z = unit(3, 4)
    assert_near(queue_contrast(z, z, unit(5, 4, seed=2), torch.ones(3, 5, dtype=torch.bool), 0.07), 0)


@pytest.mark.parametrize("alpha", [1.01, 1.5])
def test_itrd_correlation_of_equal_embeddings(alpha):
    """c is (B − 1)/B in all D channels; the same for any positive scale and shift."""
    e = normal(8, 5)
    expected = math.log2(5) - 2 * alpha * math.log2(8)
    assert_near(correlation_loss(e, e, alpha), expected)
    assert_near(correlation_loss(3 * e + 2, e, alpha), expected)
    np.testing.assert_allclose(channel_correlations(-e, e).numpy(), -7 / 8)


def test_itrd_mutual_of_orthogonal_samples_is_zero():
    assert_near(mutual_loss(2 * torch.eye(4, dtype=torch.float64), normal(4, 3)), 0)


def test_itrd_mutual_of_samples_that_the_student_confounds():
    """G_s is all ones over B; joined with a teacher that tells all apart it is the identity over B."""
    e_s, e_t = torch.ones(4, 2, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    assert_near(mutual_loss(e_s, e_t), 1 - 1 / 4)


def test_ega_of_equal_and_of_uncorrelated_embeddings():
    e = normal(4, 6)
    assert edge_loss(e, e.clone()) == 0
    assert_near(edge_loss(2 * e + 1, e), 0)
    rows = torch.tensor([[1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64)
    assert_near(correlations(rows, rows), np.eye(3))
    assert node_loss(rows, rows) == 0
    assert_near(node_loss(-rows, rows), math.sqrt(3 * 4))


# --- degenerate embeddings ------------------------------------------------------------------------

DEGENERATE = {
    "equal": lambda e: e,
    "zero": torch.zeros_like,
    "constant": torch.ones_like,
    "huge": lambda e: 1e4 * e,
    "tiny": lambda e: 1e-4 * e,
    "one sample for all": lambda e: e[:1].expand_as(e),
}


@every_name
@pytest.mark.parametrize("dtype", [torch.float32])
@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("batch", [1, 2, 6])
def test_degenerate_embeddings_give_finite_losses_and_gradients(name, case, dtype, batch):
    method = make(name, 6, 6).to(dtype)
    e = normal(batch, 6, dtype=dtype)
    for e_s, e_t in ((DEGENERATE[case](e), e), (e, DEGENERATE[case](e)), (DEGENERATE[case](e), DEGENERATE[case](e))):
        e_s = e_s.clone().requires_grad_()
        losses = losses_of(method, e_s, e_t)
        sum(losses.values()).backward()
        assert all(loss.isfinite() for loss in losses.values()), losses
        assert e_s.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
        method.after_step()


# --- the methods ----------------------------------------------------------------------------------


@every_name
def test_published_weights_and_options(name):
    weights = METHODS[name].weights
    assert (weights.gamma, weights.alpha, weights.beta) == WEIGHTS[name]
    assert {option: p.default for option, p in options_of(name).items()} == OPTIONS[name]


def test_dcd_is_icd():
    assert METHODS["dcd"] is METHODS["icd"]


@every_name
def test_no_global_random_number_is_drawn(name):
    method = make(name)
    before = torch.get_rng_state()
    losses_of(method, normal(4, 5), normal(4, 6))
    method.after_step()
    assert torch.equal(torch.get_rng_state(), before)


@every_name
def test_a_step_without_the_loss_changes_nothing(name):
    method = make(name)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    method.after_step()
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


REFUSALS = [
    ("icd", {"feat_dim": 0}, "--feat_dim is 0; it must be positive"),
    ("icd", {"icd_alpha": -1.0}, "--icd_alpha is -1.0; it must be 0 or more"),
    ("rrd", {"nce_k": 0}, "--nce_k is 0; it must be positive"),
    ("rrd", {"nce_t_s": 0.0}, "--nce_t_s is 0.0; it must be positive"),
    ("rrd", {"nce_t_t": -1.0}, "--nce_t_t is -1.0; it must be positive"),
    ("rrd", {"nce_m": 1.0}, r"--nce_m is 1.0; it must lie in \[0, 1\)"),
    ("crd_queue", {"feat_dim": -2}, "--feat_dim is -2; it must be positive"),
    ("crd_queue", {"nce_k": 0}, "--nce_k is 0; it must be positive"),
    ("crd_queue", {"nce_t": 0.0}, "--nce_t is 0.0; it must be positive"),
    ("crd_batch", {"nce_t": 0.0}, "--nce_t is 0.0; it must be positive"),
    ("itrd", {"itrd_alpha": 0.0}, "--itrd_alpha is 0.0; it must be positive"),
    ("itrd", {"itrd_corr": -1.0}, "--itrd_corr is -1.0; it must be 0 or more"),
    ("itrd", {"itrd_mutual": -1.0}, "--itrd_mutual is -1.0; it must be 0 or more"),
    ("ega", {"ega_node": -1.0}, "--ega_node is -1.0; it must be 0 or more"),
    ("ega", {"ega_edge": -1.0}, "--ega_edge is -1.0; it must be 0 or more"),
]


@pytest.mark.parametrize(("name", "options", "sentence"), REFUSALS)
def test_refusals(name, options, sentence):
    with pytest.raises(RequestError, match=sentence):
        make(name, **options)


# --- icd ------------------------------------------------------------------------------------------


def test_icd_through_its_embeddings():
    method, e_s, e_t = make("icd", feat_dim=4, icd_alpha=0.3), normal(5, 5, seed=1), normal(5, 6, seed=2)
    with torch.no_grad():
        method.b.fill_(0.7)
    z_s, z_t = embedded(method.embed_s, e_s), embedded(method.embed_t, e_t)
    scores = [[math.e * (a * b).sum() + 0.7 for b in z_t] for a in z_s]
    losses = losses_of(method, e_s, e_t)
    assert_near(losses["icd_contrast"], naive_contrastive(scores))
    assert_near(losses["icd_invariance"], 0.3 * naive_invariance(scores))


def test_icd_starts_as_published_and_trains_its_scale():
    method = make("icd")
    assert (method.t.item(), method.b.item()) == (1, 0)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    assert {id(method.t), id(method.b)} <= {id(p) for group in optimizer.param_groups for p in group["params"]}
    sum(losses_of(method, normal(5, 5), normal(5, 6)).values()).backward()
    assert abs(method.t.grad.item()) > 1e-3
    assert abs(method.b.grad.item()) < 1e-12  # no softmax sees it
    optimizer.step()
    assert method.t.item() != 1


def test_icd_scale_ends_at_ten():
    method = make("icd")
    losses = []
    for t in (math.log(10), 5.0):
        with torch.no_grad():
            method.t.fill_(t)
        losses.append(sum(losses_of(method, normal(5, 5), normal(5, 6)).values()))
    assert_near(losses[0], losses[1].item())


# --- the queue ------------------------------------------------------------------------------------


@few()
@given(length=st.integers(1, 9), sizes=st.lists(st.integers(1, 25), max_size=8))
def test_queue_keeps_the_last_ones_in_order(length, sizes):
    queue, put = EmbeddingQueue(length, 2), []
    for size in sizes:
        index = torch.arange(len(put), len(put) + size)
        queue.put(torch.stack([index, -index], dim=1).float(), index)
        put += index.tolist()
        order = (queue.oldest + torch.arange(length)) % length  # from the oldest on
        expected = [-1] * max(length - len(put), 0) + put[-length:]
        assert queue.index[order].tolist() == expected
        filled = queue.index >= 0
        assert torch.equal(queue.vectors[filled, 0], queue.index[filled].float())
        assert torch.equal(queue.vectors[filled, 1], -queue.index[filled].float())


def test_queue_starts_from_unit_vectors_of_no_image():
    queue = EmbeddingQueue(300, 128)
    np.testing.assert_allclose(queue.vectors.norm(dim=1).numpy(), 1, rtol=1e-6)
    assert (queue.index == -1).all()
    assert queue.oldest == 0


@pytest.mark.parametrize("name", ["rrd", "crd_queue"])
def test_a_queue_is_no_longer_than_the_data_set(name):
    """The digits have 1,297 training images."""
    assert len(make(name, num_samples=1297).queue.vectors) == 1297
    assert len(make(name, num_samples=50000).queue.vectors) == 16384
    assert len(make(name, num_samples=1297, nce_k=64).queue.vectors) == 64


@pytest.mark.parametrize("name", ["rrd", "crd_queue"])
def test_an_epoch_with_a_smaller_last_batch(name):
    """Batches of 4, 4 and 3 into a queue of 6: the loss sees what was there before, the batch enters after the step."""
    method, put = make(name, nce_k=6, feat_dim=4), []
    initial = method.queue.vectors.clone()
    for step, size in enumerate((4, 4, 3, 4)):
        e_s, e_t = normal(size, 5, seed=step), normal(size, 6, seed=10 + step)
        batch = make_batch(size, step, torch.arange(size) + 4 * step)
        z_s, z_t = embedded(method.embed_s, e_s), embedded(method.embed_t, e_t)
        expected_rows = initial.numpy().copy()
        for count, row in enumerate(put):
            expected_rows[count % 6] = row
        np.testing.assert_allclose(method.queue.vectors.numpy(), expected_rows, rtol=1e-12)
        (loss,) = losses_of(method, e_s, e_t, batch).values()
        if name == "rrd":
            expected = naive_relational(z_s, z_t, expected_rows, 0.04, 0.1)
        else:
            expected = naive_queue_contrast(z_s, z_t, expected_rows, np.zeros((size, 6), bool), 0.07)
        assert_near(loss, expected)
        loss.backward()
        np.testing.assert_allclose(method.queue.vectors.numpy(), expected_rows, rtol=1e-12)  # not moved yet
        method.after_step()
        put += list(z_t)


@pytest.mark.parametrize(
    ("name", "options"), [("rrd", {"nce_k": 7}), ("rrd", {"memory_type": "momentum"}), ("crd_queue", {"nce_k": 7})]
)
def test_state_dict_carries_the_memory(name, options):
    first, second = make(name, seed=0, **options), make(name, seed=1, **options)
    losses_of(first, normal(4, 5), normal(4, 6))
    first.after_step()
    second.load_state_dict(first.state_dict())
    for method in (first, second):
        losses_of(method, normal(3, 5, seed=1), normal(3, 6, seed=2))
        method.after_step()
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


# --- rrd ------------------------------------------------------------------------------------------


def test_rrd_projects_the_teacher_at_random_for_good():
    method = make("rrd")
    assert not any(p.requires_grad for p in method.embed_t.parameters())
    sum(losses_of(method, normal(4, 5), normal(4, 6)).values()).backward()
    assert all(p.grad is not None for p in method.embed_s.parameters())
    assert all(p.grad is None for p in method.embed_t.parameters())


def test_rrd_temperatures_belong_to_whom_they_say():
    e_s, e_t = normal(4, 5), normal(4, 6)
    (loss,) = losses_of(make("rrd", nce_k=8, nce_t_s=0.2, nce_t_t=0.5), e_s, e_t).values()
    method = make("rrd", nce_k=8)
    z_s, z_t = embedded(method.embed_s, e_s), embedded(method.embed_t, e_t)
    assert_near(loss, naive_relational(z_s, z_t, method.queue.vectors.numpy(), student_t=0.2, teacher_t=0.5))


def test_rrd_with_a_memory_of_all_images():
    method = make("rrd", num_samples=9, memory_type="momentum", nce_m=0.25, feat_dim=4)
    assert method.queue is None
    bank = method.bank.numpy().copy()
    np.testing.assert_allclose(np.linalg.norm(bank, axis=1), 1, rtol=1e-6)
    for step in range(3):
        index = torch.randperm(9, generator=torch.Generator().manual_seed(step))[:4]
        e_s, e_t = normal(4, 5, seed=step), normal(4, 6, seed=10 + step)
        z_s, z_t = embedded(method.embed_s, e_s), embedded(method.embed_t, e_t)
        (loss,) = losses_of(method, e_s, e_t, make_batch(4, step, index)).values()
        assert_near(loss, naive_relational(z_s, z_t, bank, 0.04, 0.1))
        loss.backward()
        np.testing.assert_allclose(method.bank.numpy(), bank, rtol=1e-12)
        method.after_step()
        for i, row in zip(index, z_t, strict=True):
            moved = 0.25 * bank[i] + 0.75 * row
            bank[i] = moved / math.sqrt((moved**2).sum())
        np.testing.assert_allclose(method.bank.numpy(), bank, rtol=1e-12)


# --- crd_queue ------------------------------------------------------------------------------------


def test_crd_queue_counts_no_image_against_itself():
    """The second batch meets two of its own images from before: they are left out of its negatives."""
    method = make("crd_queue", nce_k=5, feat_dim=4)
    losses_of(method, normal(4, 5), normal(4, 6), make_batch(4, 0, [3, 8, 1, 6]))
    method.after_step()
    e_s, e_t = normal(3, 5, seed=1), normal(3, 6, seed=2)
    (loss,) = losses_of(method, e_s, e_t, make_batch(3, 1, [8, 2, 3])).values()
    same = [[False, True, False, False, False], [False] * 5, [True, False, False, False, False]]
    z_s, z_t = embedded(method.embed_s, e_s), embedded(method.embed_t, e_t)
    assert_near(loss, naive_queue_contrast(z_s, z_t, method.queue.vectors.numpy(), same, 0.07))


@pytest.mark.parametrize("name", ["crd_queue", "crd_batch", "icd"])
def test_both_embeddings_are_trained(name):
    method = make(name)
    sum(losses_of(method, normal(4, 5), normal(4, 6)).values()).backward()
    for layer in (method.embed_s, method.embed_t):
        assert layer.weight.grad.abs().sum() > 0


def test_crd_batch_through_its_embeddings():
    method, e_s, e_t = make("crd_batch", nce_t=0.2), normal(5, 5, seed=1), normal(5, 6, seed=2)
    expected = naive_batch_contrast(embedded(method.embed_s, e_s), embedded(method.embed_t, e_t), 0.2)
    assert_near(losses_of(method, e_s, e_t)["crd_batch"], expected)


# --- itrd and ega ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("width_s", "width_t"), [(5, 6), (6, 6)])
def test_itrd_applies_its_weights(width_s, width_t):
    """The student is embedded for the correlation always, for the mutual information where the widths differ."""
    method, e_s, e_t = make("itrd", width_s, width_t), normal(7, width_s, seed=1), normal(7, width_t, seed=2)
    projected = e_s.numpy() @ method.embed.weight.detach().numpy().T + method.embed.bias.detach().numpy()
    losses = losses_of(method, e_s, e_t)
    assert_near(losses["itrd_corr"], 2.0 * naive_correlation_loss(projected, e_t.numpy(), 1.5))
    mutual = naive_mutual_loss(projected if width_s != width_t else e_s.numpy(), e_t.numpy())
    assert_near(losses["itrd_mutual"], 0.05 * mutual)


@pytest.mark.parametrize(("width_s", "width_t"), [(5, 6), (6, 6)])
def test_ega_projects_where_widths_differ(width_s, width_t):
    method, e_s, e_t = make("ega", width_s, width_t), normal(4, width_s, seed=1), normal(4, width_t, seed=2)
    losses, projected = losses_of(method, e_s, e_t), e_s.numpy()
    if width_s == width_t:
        assert not list(method.parameters())
    else:
        projected = projected @ method.project.weight.detach().numpy().T + method.project.bias.detach().numpy()
    assert_near(losses["ega_node"], 0.8 * naive_node(projected, e_t.numpy()))
    assert_near(losses["ega_edge"], 0.24 * naive_edge(projected, e_t.numpy()))
