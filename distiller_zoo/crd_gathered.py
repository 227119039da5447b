"""CRD as published code computes it: each sample's negatives are gathered from the memories, B×(K+1)×D numbers each.

Benchmarks measure the suite against it (`CRD.published_form`). Negatives are drawn on the device, with replacement,
from all images. The published code draws them without replacement from the images of other classes, sample by sample
in the data loader's workers, which takes longer.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from distiller_zoo.crd import CRD, EPS
from distiller_zoo.method import Batch, Method, Pair
from models import Features


class GatheredCRD(Method):
    """CRD with gathered negatives; not registered.

    Args:
        crd: layers, memories and options are copied from it.
        labels: N, int64: of the training set.
    """

    name = "crd"
    needs = CRD.needs
    bank_s: Tensor
    bank_t: Tensor

    def __init__(self, pair: Pair, crd: CRD, labels: Tensor):
        super().__init__(pair)
        self.embed_s, self.embed_t = copy.deepcopy(crd.embed_s), copy.deepcopy(crd.embed_t)
        self.register_buffer("bank_s", crd.memory_s.bank.clone())
        self.register_buffer("bank_t", crd.memory_t.bank.clone())
        self.num_samples, self.temperature, self.momentum = crd.num_samples, crd.temperature, crd.momentum
        self.k = min(crd.nce_k, len(labels) - int(torch.bincount(labels).max()))
        self.z: list[float | None] = [None, None]  # of each memory, set by the first batch

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        shape = (len(batch.index), self.k + 1)
        chosen = torch.randint(self.num_samples, shape, device=batch.index.device)
        chosen[:, 0] = batch.index
        return self.contrast(student.embedding, teacher.embedding, chosen)

    def contrast(self, embedding_s: Tensor, embedding_t: Tensor, chosen: Tensor) -> Tensor:
        """The loss of both sides; updates the memories.

        Args:
            embedding_s, embedding_t: B×D of the two networks.
            chosen: int64 B×(K+1), indices into the training set, the sample itself in column 0.
        """
        v_s, v_t = F.normalize(self.embed_s(embedding_s)), F.normalize(self.embed_t(embedding_t))
        loss = self._side(0, v_s, self.bank_t, chosen) + self._side(1, v_t, self.bank_s, chosen)
        for bank, v in ((self.bank_s, v_s), (self.bank_t, v_t)):
            self._update(bank, chosen[:, 0], v.detach())
        return loss

    def _side(self, side: int, anchors: Tensor, bank: Tensor, chosen: Tensor) -> Tensor:
        gathered = bank.index_select(0, chosen.flatten()).view(*chosen.shape, -1)  # B×(K+1)×D
        scores = (torch.bmm(gathered, anchors.unsqueeze(2)).squeeze(2) / self.temperature).exp()
        z = self.z[side]
        if z is None:
            z = self.z[side] = scores.mean().item() * self.num_samples
        p = scores / z
        noise = self.k / self.num_samples
        positive = (p[:, 0] / (p[:, 0] + noise + EPS)).log()
        negative = (noise / (p[:, 1:] + noise + EPS)).log()
        return -(positive.sum() + negative.sum()) / len(p)

    @torch.no_grad()
    def _update(self, bank: Tensor, index: Tensor, embedding: Tensor) -> None:
        rows = self.momentum * bank.index_select(0, index) + (1 - self.momentum) * embedding
        bank.index_copy_(0, index, F.normalize(rows))
