"""Several teachers as one, for methods that learn from predictions alone: a mixture of their predictions."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from models import Features

Weighting = Literal["average", "confidence"]
MANY = 8  # teachers at most: a limit of memory, not of the formulas


def negative_entropies(logits: Sequence[Tensor]) -> Tensor:
    """M×B numbers Σ_k p log p in nats, from the B×K logits of each of M teachers (or heads); 0 for a certain one."""
    log_p = torch.stack(tuple(logits)).log_softmax(dim=2)
    return (log_p.exp() * log_p).sum(dim=2)


def confidence_weights(logits: Sequence[Tensor]) -> Tensor:
    """M×B weights: for each sample the softmax of the negative entropies of M teachers (or heads); logits B×K each."""
    return negative_entropies(logits).softmax(dim=0)


def mixture(teachers: tuple[Features, ...], weighting: Weighting) -> Features:
    """One teacher whose logits (B×K) are log Σ_i w_i·p_i of the teachers' probabilities p_i.

    w_i is 1/M for `average`; for `confidence` it is STD's weight of each sample (see `confidence_weights`).
    """
    logits = [teacher.logits for teacher in teachers]
    log_p = torch.stack(logits).log_softmax(dim=2)
    if weighting == "confidence":
        log_w = confidence_weights(logits).log()
    else:
        log_w = log_p.new_full(log_p.shape[:2], 1 / len(logits)).log()
    return Features((log_p + log_w[:, :, None]).logsumexp(dim=0))
