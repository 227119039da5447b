"""MGD: Masked Generative Distillation (Yang, Li, Shao, Shi, Yuan, Yuan, ECCV 2022, arXiv:2205.01529).

    L = 1/B ‖ G( M ∘ align(f_s) ) − f_t ‖²,   G = 3×3 convolution → ReLU → 3×3 convolution

From what a random mask M leaves of the student's last stage, the teacher's is to be generated. align is a 1×1
convolution where the channels differ. For classification the authors mask whole channels, for detection positions.
The sum over channels and positions, rather than the mean, is what the weights belong to: 0.0012 is that of the same
authors' CIFAR-100 configuration (resnet34 → resnet18, in their collection for NKD), 0.00007 that for ImageNet. Where
sizes differ the larger map is pooled to the smaller.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from distiller_zoo.maps import to_common_size
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Share
from distiller_zoo.registry import register_method
from models import Features


def generation_loss(generated: Tensor, f_t: Tensor) -> Tensor:
    """Squared difference of B×C×H×W maps, summed over everything but the batch."""
    return (generated - f_t).square().sum() / len(f_t)


@register_method("mgd")
class MGD(Method):
    """The teacher's last stage, generated from a masked one of the student.

    Options:
        mgd_ratio: λ, share of the student's features that is masked.
        mgd_mask: mask whole channels (`channel`) or whole positions (`spatial`).
    """

    paper = "Yang et al., Masked Generative Distillation, ECCV 2022"
    weights = Weights(gamma=1, alpha=0, beta=0.0012)
    needs = ("stages",)
    reads_teacher_logits = False

    def __init__(self, pair: Pair, *, mgd_ratio: Share = 0.15, mgd_mask: Literal["channel", "spatial"] = "channel"):
        super().__init__(pair)
        self.ratio, self.channelwise = mgd_ratio, mgd_mask == "channel"
        channels_s, channels_t = pair.student.stages[-1][0], pair.teacher.stages[-1][0]
        self.align = nn.Identity() if channels_s == channels_t else nn.Conv2d(channels_s, channels_t, 1)
        self.generate = nn.Sequential(
            nn.Conv2d(channels_t, channels_t, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels_t, channels_t, 3, padding=1),
        )

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        f_s, f_t = to_common_size(self.align(student.stages[-1]), teacher.stages[-1])
        b, c, h, w = f_s.shape
        shape = (b, c, 1, 1) if self.channelwise else (b, 1, h, w)
        kept = torch.rand(shape, generator=batch.generator("mgd"), device=f_s.device) >= self.ratio
        return generation_loss(self.generate(f_s * kept), f_t)
