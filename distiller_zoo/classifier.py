"""The teacher's classifier inside a method, for those that apply it to the student's features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import FeatureShapes, Network


class TeacherClassifier(nn.Module):
    """The teacher's last linear layer as buffers: trained by nothing, and zero until `copy_from`.

    Args:
        width: D, of the teacher's embedding.
        num_classes: K.
        saved: whether the buffers are saved with the method, so that it can be deployed without the teacher.
    """

    weight: Tensor  # K×D
    bias: Tensor  # K

    def __init__(self, width: int, num_classes: int, saved: bool = True):
        super().__init__()
        self.register_buffer("weight", torch.zeros(num_classes, width), persistent=saved)
        self.register_buffer("bias", torch.zeros(num_classes), persistent=saved)

    @torch.no_grad()
    def copy_from(self, teacher: Network) -> None:
        """Take the weights of the teacher's last linear layer; a missing bias counts as zero."""
        self.weight.copy_(teacher.last_linear.weight)
        if teacher.last_linear.bias is not None:
            self.bias.copy_(teacher.last_linear.bias)

    def forward(self, embedding: Tensor) -> Tensor:
        """...×D embeddings to ...×K logits."""
        return F.linear(embedding, self.weight, self.bias)


def rectifier_of(teacher: FeatureShapes) -> nn.Module:
    """The activation behind the teacher's last map: a ReLU in CNNs; none in MLPs, which end in a layer norm."""
    return nn.Identity() if teacher.blocks else nn.ReLU()
