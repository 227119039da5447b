"""CRD: Contrastive Representation Distillation (Tian, Krishnan, Isola, ICLR 2020, arXiv:1910.10699), eq. 17-18.

Noise-contrastive estimation between the embeddings v of one network and a memory M of the other's:

    P = exp(v·m / τ) / Z
    L = −1/B Σ_i [ log P⁺/(P⁺ + K/N) + Σ_k log (K/N)/(P_k + K/N) ],   once from each side

Each memory holds one embedding for each of the N training images. The published code gathers the
K = 16,384 negatives of every sample as vectors: B×K×D, half a gigabyte for each memory at batch 64.
Here v·M for all N is one matrix product, B×N, from which the drawn scores are picked.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Entries, Share, Temperature, Width
from distiller_zoo.registry import register_method
from models import Features

EPS = 1e-7


def nce_loss(positive: Tensor, negative: Tensor, drawn: Tensor, num_negatives: int, num_samples: int) -> Tensor:
    """The binary noise-contrastive loss of one side, mean over the batch.

    Args:
        positive: B, P of each sample's positive.
        negative: B×W, P of candidate negatives.
        drawn: B×W, True where a candidate is one of the K negatives.
        num_negatives: K.
        num_samples: N, so that noise has probability 1/N for each sample.
    """
    noise = num_negatives / num_samples
    log_positive = (positive / (positive + noise + EPS)).log()
    log_negative = math.log(noise) - (negative + noise + EPS).log()
    return -(log_positive.sum() + log_negative.masked_fill(~drawn, 0).sum()) / len(positive)


class NegativeSampler(nn.Module):
    """Draws, for every sample of a batch, K distinct training images of other classes, on the device.

    One random permutation of the training set serves the whole step: each sample reads it from a random
    place on and skips images of its own class until it has K. So the K negatives of a sample are a
    uniform draw without replacement. The window is K + (size of the largest class) wide, enough to
    skip any class, and every shape is static.

    Args:
        labels: N, int64, of the training set.
        num_negatives: K.
    """

    labels: Tensor  # N
    members: Tensor  # classes × largest class: row c lists the images of class c
    counts: Tensor  # images of each class

    def __init__(self, labels: Tensor, num_negatives: int):
        super().__init__()
        counts = torch.bincount(labels)
        self.k = num_negatives
        self.window = min(num_negatives + int(counts.max()), len(labels))
        order = labels.argsort(stable=True)
        self.register_buffer("labels", labels, persistent=False)
        members = torch.zeros(len(counts), int(counts.max()), dtype=torch.int64, device=labels.device)
        slots = torch.arange(members.shape[1], device=labels.device) < counts[:, None]
        members[slots] = order
        self.register_buffer("members", members, persistent=False)
        self.register_buffer("counts", counts, persistent=False)

    def negatives(self, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Candidate indices (B×W, int64) and which of them are drawn (B×W, bool; K in each row)."""
        n, device = len(self.labels), self.labels.device
        permutation = torch.randperm(n, generator=generator, device=device)
        start = torch.randint(n, (len(labels), 1), generator=generator, device=device)
        place = (start + torch.arange(self.window, device=device)) % n
        candidates = permutation[place]
        other = self.labels[permutation][place] != labels[:, None]
        return candidates, other & (other.cumsum(dim=1, dtype=torch.int32) <= self.k)

    def positives(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """For each sample one training image of its class (B, int64), itself included."""
        u = torch.rand(len(labels), generator=generator, device=labels.device, dtype=torch.float64)
        return self.members[labels, (u * self.counts[labels]).long()]


class ContrastMemory(nn.Module):
    """One memory of N unit vectors and the constant Z of the scores against it."""

    bank: Tensor  # N×D
    z: Tensor  # scalar; -1 until the first batch sets it

    def __init__(self, num_samples: int, dim: int):
        super().__init__()
        bound = 1 / math.sqrt(dim / 3)
        self.register_buffer("bank", torch.empty(num_samples, dim).uniform_(-bound, bound))
        self.register_buffer("z", torch.tensor(-1.0))

    def scores(
        self, anchor: Tensor, positive: Tensor, candidates: Tensor, drawn: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """P of the positives (B) and of the candidates (B×W) for anchors B×D.

        Args:
            positive: B, int64 index of each sample's positive.
            candidates: B×W, int64 indices.
            drawn: B×W, True where a candidate is a negative.
        """
        products = anchor @ self.bank.T / temperature
        positive = products.gather(1, positive[:, None]).squeeze(1).exp()
        negative = products.gather(1, candidates).exp()
        with torch.no_grad():
            total = positive.sum() + negative.masked_fill(~drawn, 0).sum()
            mean = total / (len(positive) + drawn.sum())
            # Chosen on the device: asking the host whether Z is set would wait for it at every step.
            self.z.copy_(torch.where(self.z < 0, mean * len(self.bank), self.z))
        return positive / self.z, negative / self.z

    @torch.no_grad()
    def update(self, index: Tensor, embedding: Tensor, momentum: float) -> None:
        """Move the rows `index` (B) towards `embedding` (B×D) and bring them to unit length."""
        self.bank[index] = F.normalize(momentum * self.bank[index] + (1 - momentum) * embedding)


@register_method("crd")
class CRD(Method):
    """Contrast each network's embedding with a memory of the other's.

    Options:
        feat_dim: width of the common embedding space.
        nce_k: negatives for each sample; at most as many as there are images of other classes.
        nce_t: τ, temperature of the similarities.
        nce_m: share of the old embedding that a memory keeps at each visit.
        mode: the positive is the sample itself (`exact`) or a random one of its class (`relax`).
    """

    paper = "Tian et al., Contrastive Representation Distillation, ICLR 2020"
    weights = Weights(gamma=1, alpha=0, beta=0.8)
    needs = ("embedding",)
    reads_teacher_logits = False
    required_hooks = ("prepare",)
    sampler: NegativeSampler  # made by `prepare`

    def __init__(
        self,
        pair: Pair,
        *,
        feat_dim: Width = 128,
        nce_k: Entries = 16384,
        nce_t: Temperature = 0.07,
        nce_m: Share = 0.5,
        mode: Literal["exact", "relax"] = "exact",
    ):
        super().__init__(pair)
        self.num_samples, self.nce_k = pair.num_samples, nce_k
        self.temperature, self.momentum, self.relax = nce_t, nce_m, mode == "relax"
        self.embed_s = nn.Linear(pair.student.embedding, feat_dim)
        self.embed_t = nn.Linear(pair.teacher.embedding, feat_dim)
        self.memory_s = ContrastMemory(pair.num_samples, feat_dim)
        self.memory_t = ContrastMemory(pair.num_samples, feat_dim)
        self._latest: tuple[Tensor, Tensor, Tensor] | None = None  # of the last batch: index, v_s, v_t

    def prepare(self, labels: Tensor) -> None:
        super().prepare(labels)
        # On small data sets there are fewer images of other classes than K.
        available = len(labels) - int(torch.bincount(labels).max())
        if available == 0:
            raise RequestError("crd contrasts images of different classes, and this data set has only one")
        self.sampler = NegativeSampler(labels, min(self.nce_k, available))

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        v_s = F.normalize(self.embed_s(student.embedding))
        v_t = F.normalize(self.embed_t(teacher.embedding))
        generator = batch.generator("crd")
        # Of a mixed image too the class before mixing: it is the memory's row at `index` that the anchor belongs to.
        candidates, drawn = self.sampler.negatives(batch.labels, generator)
        positive = self.sampler.positives(batch.labels, generator) if self.relax else batch.index
        sides = ((v_s, self.memory_t), (v_t, self.memory_s))
        loss = v_s.new_zeros(())
        for anchor, memory in sides:
            p, q = memory.scores(anchor, positive, candidates, drawn, self.temperature)
            loss = loss + nce_loss(p, q, drawn, self.sampler.k, self.num_samples)
        self._latest = (batch.index, v_s.detach(), v_t.detach())
        return loss

    def after_step(self) -> None:
        # Not within the loss: the backward pass still needs the memories as they were.
        if self._latest is None:  # no loss was computed: β is 0
            return
        index, v_s, v_t = self._latest
        self.memory_s.update(index, v_s, self.momentum)
        self.memory_t.update(index, v_t, self.momentum)

    def published_form(self, pair: Pair, labels: Tensor) -> Method:
        from distiller_zoo.crd_gathered import GatheredCRD  # which imports this module

        return GatheredCRD(pair, self, labels)
