"""LWR: Learning With Retrospection (Deng, Zhang, AAAI 2021, arXiv:2012.13098, Algorithm 1).

In each k-th epoch every sample's softened prediction q = softmax(z/τ) is kept; from then on the base loss is

    α·CE(y, p) + (1 − α)·τ²·KL(q ‖ p^τ),    α = 1 − rate·(k·⌊(i − 1)/k⌋)/M    in epoch i of M

so the labels lose weight with each refresh, down to 1 − rate at the end. In the first k epochs it is CE alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataset import Batch
from engine.protocol.retrospection_plan import RetrospectionPlan


class Retrospection(nn.Module):
    """The base loss of a run that learns from its own past; the kept predictions N×K are its state."""

    log_q: Tensor

    def __init__(self, plan: RetrospectionPlan, epochs: int, num_samples: int, num_classes: int):
        super().__init__()
        self.plan, self.epochs = plan, epochs
        # As log-probabilities: those of a uniform prediction until a sample's first refresh.
        start = torch.full((num_samples, num_classes), 1 / num_classes).log()
        self.register_buffer("log_q", start)

    def label_weight(self, epoch: int) -> float:
        """The weight α of the labels in an epoch (from 1)."""
        k = self.plan.k
        return 1 - self.plan.rate * (k * ((epoch - 1) // k)) / self.epochs

    def forward(self, ce: Tensor, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the KL term τ²·KL(q ‖ p^τ), unweighted, and the whole base loss; scalars.

        In every k-th epoch the predictions of the batch are kept. Samples that such an epoch leaves out (the dropped
        last batch) keep their former ones.

        Args:
            ce: cross-entropy with the labels.
            logits: B×K.
        """
        tau, alpha = self.plan.temperature, self.label_weight(batch.epoch)
        log_p = F.log_softmax(logits / tau, dim=1)
        log_q = self.log_q[batch.index]
        kl = tau**2 * F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
        if batch.epoch % self.plan.k == 0:
            self.log_q[batch.index] = log_p.detach()
        return kl, ce if batch.epoch <= self.plan.k else alpha * ce + (1 - alpha) * kl
