"""ND: Improving Knowledge Distillation via Regularizing Feature Direction and Norm (Wang, Cheng, Duan, Wang, Feng,
Kong, ECCV 2024); beside KL it is KD++.

The student's embedding, brought to the teacher's width where it has another one, shall point where the teacher's
embeddings of the class point in the mean, and be as long as the teacher's or longer:

    L = 1 − mean( e_s·ĉ_y / max(‖e_s‖, ‖e_t‖) ),    ĉ_k = c_k/‖c_k‖

c_k is the mean over the training images of class k, without augmentation, taken once before the first step. An e_s
shorter than e_t is drawn along ĉ_y; a longer one is only turned.

KD++ is this beside cross-entropy and KL (γ = α = 1), here with the authors' β for resnet56 → resnet20;
`--paper_weights` has their α and β for six pairs. DKD++, DIST++ and ReviewKD++ are `dkd+nd`, `dist+nd` and
`nd+reviewkd`. The authors' runs have 128 images a step (64 on each of two GPUs), a learning rate of 0.1, Nesterov's
momentum, and an α that grows over 20 epochs; the recipes here have none of it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.registry import register_method
from models import Features

EPS = 1e-7
DROPOUT = 0.5  # of what brings the student's embedding to the teacher's width, as the authors have it


def direction_and_norm_loss(e_s: Tensor, e_t: Tensor, centres: Tensor) -> Tensor:
    """L, a scalar.

    Args:
        e_s, e_t: B×D embeddings.
        centres: B×D, of each sample's class; their length does not matter.
    """
    length = torch.maximum(e_s.norm(dim=1), e_t.norm(dim=1)).clamp(min=EPS)
    return 1 - ((e_s * F.normalize(centres, dim=1)).sum(dim=1) / length).mean()


@register_method("nd")
class ND(Method):
    """Point along the teacher's class means, and reach as far."""

    paper = "Wang et al., Improving Knowledge Distillation via Regularizing Feature Direction and Norm, ECCV 2024"
    weights = Weights(gamma=1, alpha=1, beta=2)
    needs_training_set_pass = True
    weights_from = "the authors' for resnet56 → resnet20"
    needs = ("embedding",)
    reads_teacher_logits = False
    required_hooks = ("fit_on_training_set",)
    centres: Tensor  # K×width: sums of the teacher's embeddings over each class

    def __init__(self, pair: Pair):
        super().__init__(pair)
        own, width = pair.student.embedding, pair.teacher.embedding
        self.connector: nn.Module = nn.Identity()
        if own != width:
            linear = nn.Linear(own, width)
            nn.init.zeros_(linear.bias)
            self.connector = nn.Sequential(nn.BatchNorm1d(own), nn.Dropout(DROPOUT), linear)
        # Sums have the direction of the means.
        self.register_buffer("centres", torch.zeros(pair.student.num_classes, width))

    def fit_on_training_set(self, teachers: tuple[Features, ...], labels: Tensor) -> None:
        super().fit_on_training_set(teachers, labels)
        members = F.one_hot(labels, len(self.centres)).to(self.centres.dtype)
        self.centres += members.T @ teachers[0].embedding

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        centres = self.centres[batch.main_labels]
        return direction_and_norm_loss(self.connector(student.embedding), teacher.embedding, centres)
