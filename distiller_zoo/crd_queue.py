"""Contrast of the student with a queue of the teacher's embeddings: CRD's question, asked in MoCo's form.

    L = −1/B Σ_i log exp(⟨z_s_i, z_t_i⟩/τ) / ( exp(⟨z_s_i, z_t_i⟩/τ) + Σ_k exp(⟨z_s_i, q_k⟩/τ) )

It is the `fifo` form under which distillers (Giakoumoglou, Stathaki) publish the name CRD: InfoNCE (van den Oord, Li,
Vinyals, arXiv:1807.03748) with the queue of MoCo (He, Fan, Wu, Xie, Girshick, CVPR 2020, arXiv:1911.05722) in place
of CRD's noise-contrastive estimation against two memories. A queue needs no room for the whole data set. In that code
the batch enters the queue first, so that each positive is a negative too; here it enters after the step, and what the
queue holds of the same image from an epoch before is not counted.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Entries, Temperature, Width
from distiller_zoo.queues import EmbeddingQueue
from distiller_zoo.registry import register_method
from models import Features


def queue_contrast(z_s: Tensor, z_t: Tensor, queue: Tensor, same: Tensor, temperature: float) -> Tensor:
    """InfoNCE of B×D unit vectors with their partners, against K negatives; mean over the batch.

    Args:
        z_s, z_t: B×D of student and teacher.
        queue: K×D.
        same: B×K, True where an entry is of the sample's own image: it is no negative.
    """
    positive = (z_s * z_t).sum(dim=1, keepdim=True)
    negative = (z_s @ queue.T).masked_fill(same, -torch.inf)
    scores = torch.cat([positive, negative], dim=1) / temperature
    return F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64, device=scores.device))


@register_method("crd_queue")
class CrdQueue(Method):
    """The teacher's embedding of the same image against earlier ones of others.

    Options:
        feat_dim: width of the common embedding space.
        nce_k: length of the queue; at most as many as there are training images.
        nce_t: τ, temperature of the similarities.
    """

    paper = "Tian et al., Contrastive Representation Distillation, ICLR 2020, in the queue form of He et al., CVPR 2020"
    weights = Weights(gamma=1, alpha=0, beta=0.8)
    weights_from = "those of crd"
    needs = ("embedding",)
    reads_teacher_logits = False

    def __init__(self, pair: Pair, *, feat_dim: Width = 128, nce_k: Entries = 16384, nce_t: Temperature = 0.07):
        super().__init__(pair)
        self.temperature = nce_t
        self.embed_s = nn.Linear(pair.student.embedding, feat_dim)
        self.embed_t = nn.Linear(pair.teacher.embedding, feat_dim)
        self.queue = EmbeddingQueue(min(nce_k, pair.num_samples), feat_dim)
        self._latest: tuple[Tensor, Tensor] | None = None  # the teacher's vectors of the last batch, and its index

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        z_s = F.normalize(self.embed_s(student.embedding))
        z_t = F.normalize(self.embed_t(teacher.embedding))
        self._latest = (z_t.detach(), batch.index)
        same = self.queue.index == batch.index[:, None]
        return queue_contrast(z_s, z_t, self.queue.vectors, same, self.temperature)

    def after_step(self) -> None:
        if self._latest is not None:  # a loss was computed: β is not 0
            self.queue.put(*self._latest)
