"""CRD in the form of published code gives what the suite's gives, on the same negatives."""

import pytest
import torch

from distiller_zoo import Pair, create_method
from models import Features, FeatureShapes

LABELS = torch.tensor([0, 1, 2, 1, 0, 2, 1, 1, 0, 1, 2, 0, 1, 2])


def make_crd(**options):
    """The suite's CRD for the 14 images of LABELS, in double precision, and its published form."""
    torch.manual_seed(0)
    shapes = [FeatureShapes(3, width, (3, 4, 4), (), ()) for width in (5, 6)]
    pair = Pair(shapes[0], (shapes[1],), len(LABELS))
    crd = create_method("crd", pair, {"feat_dim": 4, "nce_m": 0.3, **options}).double()
    plain = crd.published_form(pair, LABELS)
    crd.prepare(LABELS)
    return crd, plain


class FakeBatch:
    def __init__(self, seed, size=4):
        self.seed = seed
        self.index = torch.randperm(len(LABELS), generator=self.generator("index"))[:size]
        self.labels = LABELS[self.index]

    def generator(self, purpose):
        return torch.Generator().manual_seed(self.seed)

    def features(self, width):
        embedding = torch.randn(len(self.index), width, generator=self.generator("e"), dtype=torch.float64)
        return Features(torch.zeros(len(self.index), 3), embedding)


@pytest.mark.parametrize(("options", "k"), [({"nce_k": 5}, 5), ({}, 8)])
def test_plain_crd_is_the_suites_on_the_same_negatives(options, k):
    """Losses, gradients and memories over three steps; of 14 images 6 are of the largest class, so K is at most 8."""
    crd, plain = make_crd(**options)
    optimizers = [torch.optim.SGD(method.parameters(), lr=0.1) for method in (crd, plain)]
    assert plain.k == k
    for number in range(3):
        batch = FakeBatch(number)
        candidates, drawn = crd.sampler.negatives(batch.labels, batch.generator("crd"))
        chosen = torch.cat([batch.index[:, None], candidates[drawn].view(len(drawn), k)], dim=1)
        student, teacher = batch.features(5), batch.features(6)
        expected = crd.loss(student, teacher, batch)
        found = plain.contrast(student.embedding, teacher.embedding, chosen)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
        for loss, method, optimizer in ((expected, crd, optimizers[0]), (found, plain, optimizers[1])):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_step()
        for layer in ("embed_s", "embed_t"):
            torch.testing.assert_close(getattr(plain, layer).weight, getattr(crd, layer).weight, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(plain.bank_s, crd.memory_s.bank, rtol=1e-9, atol=0)
        torch.testing.assert_close(plain.bank_t, crd.memory_t.bank, rtol=1e-9, atol=0)
        assert plain.z == pytest.approx([crd.memory_t.z.item(), crd.memory_s.z.item()])


def test_plain_crd_contrasts_each_sample_with_k_drawn_images(monkeypatch):
    _, plain = make_crd(nce_k=6)
    seen = []
    monkeypatch.setattr(plain, "contrast", lambda *arguments: seen.append(arguments[2]) or torch.zeros(()))
    batches = [FakeBatch(number) for number in range(200)]
    for batch in batches:
        plain.loss(batch.features(5), batch.features(6), batch)
    chosen = torch.stack(seen)
    assert chosen.shape == (200, 4, 7)
    assert torch.equal(chosen[..., 0], torch.stack([batch.index for batch in batches]))
    counts = torch.bincount(chosen[..., 1:].flatten(), minlength=14)
    assert (counts > 250).all()  # 343 expected of each
