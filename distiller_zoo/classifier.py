"""The teacher's classifier inside a method, for those that let it judge the student's features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import FeatureShapes, Network


class TeacherClassifier(nn.Module):
    """The teacher's last linear layer as buffers: saved with the method, so that it is there without the teacher,
    and trained by nothing. Zero until `copy_from`."""

    def __init__(self, teacher: FeatureShapes):
        super().__init__()
        self.register_buffer("weight", torch.zeros(teacher.num_classes, teacher.embedding))
        self.register_buffer("bias", torch.zeros(teacher.num_classes))

    @torch.no_grad()
    def copy_from(self, teacher: Network) -> None:
        self.weight.copy_(teacher.last_linear.weight)
        if teacher.last_linear.bias is not None:
            self.bias.copy_(teacher.last_linear.bias)

    def forward(self, embedding: Tensor) -> Tensor:
        """B×D embeddings to B×K logits."""
        return F.linear(embedding, self.weight, self.bias)


def rectifier_of(teacher: FeatureShapes) -> nn.Module:
    """What the teacher's last map went through last: a ReLU in CNNs, but MLPs end in a layer norm."""
    return nn.Identity() if teacher.blocks else nn.ReLU()
