"""RRD: Relational Representation Distillation (Giakoumoglou, Stathaki, 2024, arXiv:2407.12073).

Student and teacher shall find a sample equally like the embeddings of a memory M of the teacher's:

    L = −1/B Σ_i softmax(M z_t_i / τ_t) · log softmax(M z_s_i / τ_s)

Student sharper than teacher, τ_s = 0.04 and τ_t = 0.10, and a batch that joins the queue after its own loss: the
version of the code that the published rows come from. Since February 2025 that code has τ_s = 0.1 and τ_t = 0.02, and a
batch joins the queue before its own loss. The two changes belong together, as so sharp a teacher finds little but the
sample itself; --nce_t_s 0.1 --nce_t_t 0.02 here would be neither version. No rows were published with the later one.

In the published code the queue starts from vectors of length 0.09 and K must be a multiple of the batch size. Here all
rows have length 1, and any batch size goes. The teacher's embedding is a fixed random projection. It is one in the
published code too, where it is handed to the optimizer but never gets a gradient. Nor should it get one from this
loss: trained together, both sides could agree by saying the same of every sample.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Entries, OnlyWith, Share, Temperature, Width
from distiller_zoo.queues import EmbeddingQueue
from distiller_zoo.registry import register_method
from models import Features


def relational_loss(z_s: Tensor, z_t: Tensor, memory: Tensor, student_t: float, teacher_t: float) -> Tensor:
    """Cross-entropy between the similarities of B×D unit vectors to a memory (M×D), mean over the batch.

    Its least value is the entropy of the teacher's similarities.
    """
    target = (z_t @ memory.T / teacher_t).softmax(dim=1)
    return -(target * (z_s @ memory.T / student_t).log_softmax(dim=1)).sum(dim=1).mean()


@dataclass(frozen=True)
class MemoryOptions:
    """Options of rrd: the form of its memory (explained at `RRD`)."""

    memory_type: Literal["fifo", "momentum"] = "fifo"
    nce_m: Annotated[Share, OnlyWith("memory_type", ("momentum",))] = 0.5


@register_method("rrd")
class RRD(Method):
    """Similarities to earlier embeddings of the teacher.

    Options:
        feat_dim: width of the common embedding space.
        nce_k: length of the queue; at most as many as there are training images.
        nce_t_s: τ_s, temperature of the student's similarities.
        nce_t_t: τ_t, temperature of the teacher's similarities.
        memory_type: a queue of the last embeddings (`fifo`), or one embedding for each training image, moved towards
            the new one at each visit (`momentum`). The published momentum form takes the exponential twice and is not
            the paper's loss; this one is.
        nce_m: share of the old embedding that the memory `momentum` keeps at each visit.
    """

    paper = "Giakoumoglou & Stathaki, Relational Representation Distillation, 2024"
    weights = Weights(gamma=1, alpha=0, beta=1)
    needs = ("embedding",)
    reads_teacher_logits = False
    bank: Tensor  # N×D, of memory_type momentum

    def __init__(
        self,
        pair: Pair,
        *,
        feat_dim: Width = 128,
        nce_k: Annotated[Entries, OnlyWith("memory_type", ("fifo",))] = 16384,
        nce_t_s: Temperature = 0.04,
        nce_t_t: Temperature = 0.10,
        memory: MemoryOptions,
    ):
        super().__init__(pair)
        self.student_t, self.teacher_t, self.momentum = nce_t_s, nce_t_t, memory.nce_m
        self.embed_s = nn.Linear(pair.student.embedding, feat_dim)
        self.embed_t = nn.Linear(pair.teacher.embedding, feat_dim).requires_grad_(False)
        self.queue: EmbeddingQueue | None = None
        if memory.memory_type == "fifo":
            self.queue = EmbeddingQueue(min(nce_k, pair.num_samples), feat_dim)
        else:
            self.register_buffer("bank", F.normalize(torch.randn(pair.num_samples, feat_dim)))
        self._latest: tuple[Tensor, Tensor] | None = None  # the teacher's vectors of the last batch, and its index

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        z_s = F.normalize(self.embed_s(student.embedding))
        z_t = F.normalize(self.embed_t(teacher.embedding))
        self._latest = (z_t.detach(), batch.index)
        memory = self.bank if self.queue is None else self.queue.vectors
        return relational_loss(z_s, z_t, memory, self.student_t, self.teacher_t)

    @torch.no_grad()
    def after_step(self) -> None:
        if self._latest is None:  # no loss was computed: β is 0
            return
        z_t, index = self._latest
        if self.queue is not None:
            self.queue.put(z_t, index)
        else:
            self.bank[index] = F.normalize(self.momentum * self.bank[index] + (1 - self.momentum) * z_t)
