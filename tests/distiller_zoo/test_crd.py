"""CRD: which negatives are drawn, the loss of scores by loops, and several steps against loops over all vectors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from distiller_zoo import Weights
from distiller_zoo.crd import NegativeSampler, nce_loss
from tests import naive
from tests.distiller_zoo.cases import (
    assert_published,
    assert_refused,
    batch_of,
    embedding_of,
    losses_of_embeddings,
    make,
)
from tests.distiller_zoo.odd_inputs import assert_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, few, normal, seeds

LABELS = torch.tensor([0, 1, 2, 1, 0, 2, 1, 1, 0, 1, 2, 0, 1, 2])
CLASS_0 = [0, 4, 8, 11]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# --- the sampler ----------------------------------------------------------------------------------


@st.composite
def labels_and_k(draw):
    """Labels of two classes or more, some of them perhaps empty or of one image, and a K that they can serve."""
    labels = draw(st.lists(st.integers(0, 5), min_size=2, max_size=40).filter(lambda labels: len(set(labels)) > 1))
    largest = max(labels.count(label) for label in labels)
    return torch.tensor(labels), draw(st.integers(1, len(labels) - largest))


def draw_negatives(labels, k, batch_labels, generator):
    """For each sample of a batch the list of its negatives."""
    candidates, drawn = NegativeSampler(labels, k).negatives(batch_labels, generator)
    assert candidates.shape == drawn.shape
    return [row[mask].tolist() for row, mask in zip(candidates, drawn, strict=True)]


@few(max_examples=60)
@given(case=labels_and_k(), seed=seeds)
def test_exactly_k_distinct_negatives_of_other_classes(case, seed):
    labels, k = case
    for label, negatives in zip(labels, draw_negatives(labels, k, labels, seeded(seed)), strict=True):
        assert len(negatives) == len(set(negatives)) == k
        assert all(labels[image] != label for image in negatives)


def test_balanced_classes():
    labels = torch.arange(10).repeat(20)
    for label, negatives in zip(labels, draw_negatives(labels, 180, labels, seeded(0)), strict=True):
        assert sorted(negatives) == torch.nonzero(labels != label).flatten().tolist()


@few(max_examples=60)
@given(case=labels_and_k(), seed=seeds)
def test_each_row_reads_one_order_round_the_end_from_its_own_start(case, seed):
    labels, k = case
    sampler = NegativeSampler(labels, k)
    sampler.window = len(labels)
    candidates, drawn = sampler.negatives(labels, seeded(seed))
    first = candidates[0].tolist()
    assert sorted(first) == list(range(len(labels)))
    for row, mask, label in zip(candidates.tolist(), drawn.tolist(), labels, strict=True):
        place = first.index(row[0])
        assert row == first[place:] + first[:place]
        wanted = [image for image in row if labels[image] != label][:k]
        assert [image for image, chosen in zip(row, mask, strict=True) if chosen] == wanted


def test_starts_differ_within_a_batch():
    labels = torch.arange(4).repeat(50)
    candidates, _ = NegativeSampler(labels, 3).negatives(labels[:64], seeded(0))
    assert len(set(candidates[:, 0].tolist())) > 40


def test_every_set_of_negatives_is_equally_likely():
    """Class 0 against 6 images of two other classes: 15 pairs, each draw one of them."""
    labels, counts = torch.tensor([0, 1, 0, 1, 2, 1, 0, 2, 1]), {}
    sampler, generator = NegativeSampler(labels, 2), seeded(0)
    for _ in range(4500):
        candidates, drawn = sampler.negatives(labels[:1], generator)
        pair = frozenset(candidates[drawn].tolist())
        counts[pair] = counts.get(pair, 0) + 1
    assert len(counts) == 15
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_every_negative_is_equally_likely_where_classes_are_unbalanced():
    """Drawn without replacement, counts vary less than independent ones: by (M − K)/(M − 1)."""
    labels = torch.tensor([0] * 3 + [1] * 12 + [2] * 5)
    k, draws, generator = 4, 3000, seeded(1)
    sampler = NegativeSampler(labels, k)
    counts = np.zeros((3, len(labels)))
    for _ in range(draws):
        candidates, drawn = sampler.negatives(torch.tensor([0, 1, 2]), generator)
        for label in range(3):
            counts[label, candidates[label][drawn[label]]] += 1
    for label in range(3):
        others = counts[label][labels.numpy() != label]
        m, expected = len(others), draws * k / len(others)
        statistic = ((others - expected) ** 2 / expected).sum() * (m - 1) / (m - k)
        assert counts[label].sum() == others.sum() == draws * k
        assert stats.chi2.sf(statistic, m - 1) > 1e-3


def test_positives_are_uniform_within_the_class():
    drawn = NegativeSampler(LABELS, 1).positives(torch.zeros(6000, dtype=torch.int64), seeded(0))
    images, counts = np.unique(drawn.numpy(), return_counts=True)
    assert images.tolist() == CLASS_0
    assert stats.chisquare(counts).pvalue > 1e-3


@few(max_examples=60)
@given(case=labels_and_k(), seed=seeds)
def test_positives_are_of_the_same_class(case, seed):
    labels, k = case
    positives = NegativeSampler(labels, k).positives(labels, seeded(seed))
    assert torch.equal(labels[positives], labels)


# --- the loss of scores ---------------------------------------------------------------------------


def naive_nce(positive, negative, drawn, k, n):
    total, noise = 0.0, k / n
    for p, row, mask in zip(positive, negative, drawn, strict=True):
        total -= math.log(p / (p + noise + 1e-7))
        total -= sum(math.log(noise / (q + noise + 1e-7)) for q, d in zip(row, mask, strict=True) if d)
    return total / len(positive)


def drawn_mask(batch, width, k):
    return torch.arange(width).expand(batch, width) < k


@every_dtype
def test_formula(dtype):
    positive, negative = normal(4, seed=1, dtype=dtype).exp(), normal(4, 9, seed=2, dtype=dtype).exp()
    drawn = torch.rand(4, 9, generator=seeded(3)).argsort(dim=1) < 5
    expected = naive_nce(*arrays(positive, negative), drawn.tolist(), 5, 60)
    assert_near(nce_loss(positive, negative, drawn, 5, 60), expected)


def test_gradient_of_scores():
    assert_gradient(
        lambda p, q: nce_loss(p.exp(), q.exp(), drawn_mask(3, 6, 4), 4, 50), normal(3), normal(3, 6, seed=1)
    )


@pytest.mark.parametrize(("positive", "negative"), [(1e-30, 1e30), (1e30, 1e-30), (1e-30, 1e-30)])
def test_vanishing_and_large_scores(positive, negative):
    p, q = torch.full((2,), positive), torch.full((2, 4), negative)
    assert_finite(lambda p, q: nce_loss(p, q, drawn_mask(2, 4, 3), 3, 100), p, q)


# --- the whole loss over steps --------------------------------------------------------------------


class NaiveCrd:
    """CRD as published: every candidate's vector is gathered, every score is a dot product of its own."""

    def __init__(self, method, num_samples, k):
        self.n, self.k, self.z = num_samples, k, [None, None]
        self.banks = [bank.numpy().copy() for bank in (method.memory_s.bank, method.memory_t.bank)]

    def loss(self, method, student, teacher, positive, negatives):
        """The loss of a batch with frozen Z; sets Z on the first call."""
        embeddings = arrays(student, teacher)
        self.v = [naive.embed(layer, e) for layer, e in zip((method.embed_s, method.embed_t), embeddings, strict=True)]
        total = 0.0
        for side in (0, 1):
            anchors, bank = self.v[side], self.banks[1 - side]
            chosen = np.concatenate([positive[:, None], negatives], axis=1)
            gathered = bank[chosen]  # B × (1 + K) × D
            scores = np.zeros(chosen.shape)
            for i, j in np.ndindex(scores.shape):
                scores[i, j] = math.exp(sum(anchors[i] * gathered[i, j]) / 0.07)
            if self.z[side] is None:
                self.z[side] = scores.mean() * self.n
            p = scores / self.z[side]
            total += naive_nce(p[:, 0], p[:, 1:], np.ones_like(p[:, 1:], bool), self.k, self.n)
        return total

    def update(self, index):
        for bank, v in zip(self.banks, self.v, strict=True):
            for i, row in zip(index, v, strict=True):
                moved = 0.5 * bank[i] + 0.5 * row
                bank[i] = moved / math.sqrt((moved**2).sum())


def make_crd(seed=0, **options):
    """CRD in double precision for the 14 images of LABELS; 5 and 6 numbers wide embeddings."""
    settings = {"feat_dim": 4, **options}
    method = make("crd", embedding_of(5), embedding_of(6), num_samples=len(LABELS), seed=seed, **settings)
    method.prepare(LABELS)
    return method


def make_batch(step, size=4):
    """A batch and the embeddings of student and teacher."""
    index = torch.randperm(len(LABELS), generator=seeded(step))[:size]
    batch = batch_of(labels=LABELS[index], index=index, epoch=1, step=step)
    return batch, normal(size, 5, seed=step), normal(size, 6, seed=step)


def loss_of(method, batch, student, teacher):
    losses = losses_of_embeddings(method, student, teacher, batch)
    assert list(losses) == ["crd"]
    return losses["crd"]


def candidates_of(method, batch):
    """Positives and B×K negatives of a batch: the method's own draw, asked for once more."""
    generator = batch.generator("crd")
    candidates, drawn = method.sampler.negatives(batch.labels, generator)
    positive = method.sampler.positives(batch.labels, generator) if method.relax else batch.index
    return positive.numpy(), candidates[drawn].reshape(len(drawn), -1).numpy()


@pytest.mark.parametrize(
    ("options", "k"), [({"nce_k": 5}, 5), ({"nce_k": 5, "mode": "relax"}, 5), ({}, 8), ({"nce_k": 1}, 1)]
)
def test_three_steps_against_gathered_vectors(options, k):
    """Loss, Z of the first batch and both memories; 14 images of which 6 are of the largest class: K is at most 8."""
    method = make_crd(**options)
    naive = NaiveCrd(method, len(LABELS), k)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    for step in range(3):
        batch, student, teacher = make_batch(step)
        positive, negatives = candidates_of(method, batch)
        assert negatives.shape == (4, k)
        expected = naive.loss(method, student, teacher, positive, negatives)
        loss = loss_of(method, batch, student, teacher)
        np.testing.assert_allclose(loss.item(), expected, rtol=1e-9)
        np.testing.assert_allclose([method.memory_t.z.item(), method.memory_s.z.item()], naive.z, rtol=1e-9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for memory, bank in zip((method.memory_s, method.memory_t), naive.banks, strict=True):
            np.testing.assert_allclose(memory.bank.numpy(), bank, rtol=1e-9)  # not moved yet
        method.after_step()
        naive.update(batch.index.numpy())
        for memory, bank in zip((method.memory_s, method.memory_t), naive.banks, strict=True):
            np.testing.assert_allclose(memory.bank.numpy(), bank, rtol=1e-9)
            np.testing.assert_allclose(memory.bank[batch.index].norm(dim=1).numpy(), 1, rtol=1e-12)


def test_gradient_against_differences_of_the_gathered_loss():
    method, (batch, student, teacher) = make_crd(nce_k=5), make_batch(0)
    naive = NaiveCrd(method, len(LABELS), 5)
    drawn = candidates_of(method, batch)
    naive.loss(method, student, teacher, *drawn)  # sets Z
    loss_of(method, batch, student, teacher).backward()
    for weight in (method.embed_s.weight, method.embed_t.weight, method.embed_s.bias, method.embed_t.bias):
        place, step, losses = (1,) * weight.dim(), 1e-6, []
        for change in (step, -2 * step):
            with torch.no_grad():
                weight[place] += change
            losses.append(naive.loss(method, student, teacher, *drawn))
        with torch.no_grad():
            weight[place] += step
        assert weight.grad[place].item() == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5)


def test_the_student_gets_a_gradient_through_its_embedding():
    method, (batch, student, teacher) = make_crd(nce_k=5), make_batch(0)
    student.requires_grad_()
    loss_of(method, batch, student, teacher).backward()
    assert student.grad.abs().sum(dim=1).gt(0).all()


def test_memories_start_as_published():
    """Uniform between ±1/√(D/3), two memories of their own, not of unit length."""
    method = make_crd(feat_dim=128, nce_k=5)
    bound = 1 / math.sqrt(128 / 3)
    for memory in (method.memory_s, method.memory_t):
        assert memory.bank.shape == (14, 128)
        assert bound * 0.95 < memory.bank.abs().max() <= bound
        assert stats.kstest(memory.bank.flatten().numpy(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    assert not torch.equal(method.memory_s.bank, method.memory_t.bank)


def test_state_dict_carries_memories_and_z():
    first, second = make_crd(seed=0, nce_k=5), make_crd(seed=1, nce_k=5)
    batch, *embeddings = make_batch(0)
    loss_of(first, batch, *embeddings).backward()
    first.after_step()
    second.load_state_dict(first.state_dict())
    batch, *embeddings = make_batch(1)
    assert torch.equal(loss_of(first, batch, *embeddings), loss_of(second, batch, *embeddings))
    assert second.memory_s.z > 0
    first.after_step()
    second.after_step()
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_state_dict_does_not_hold_the_labels():
    assert not [key for key in make_crd().state_dict() if key.startswith("sampler")]


def test_a_step_without_the_loss_leaves_the_memories_alone():
    method = make_crd()
    before = method.memory_s.bank.clone()
    method.after_step()
    assert torch.equal(method.memory_s.bank, before)


def test_another_step_draws_other_negatives_and_the_same_step_the_same():
    method = make_crd(nce_k=5)
    batch, other = make_batch(0)[0], make_batch(1)[0]
    other.labels, other.index = batch.labels, batch.index
    assert (candidates_of(method, batch)[1] == candidates_of(method, batch)[1]).all()
    assert (candidates_of(method, batch)[1] != candidates_of(method, other)[1]).any()


def test_published():
    options = {"feat_dim": 128, "nce_k": 16384, "nce_t": 0.07, "nce_m": 0.5, "mode": "exact"}
    assert_published("crd", Weights(1, 0, 0.8), options)


def test_refused_options():
    for option in ("feat_dim", "nce_k", "nce_t"):
        assert_refused("crd", **{option: 0})
