"""ReviewKD: Distilling Knowledge via Knowledge Review (Chen, Liu, Zhao, Jia, CVPR 2021, arXiv:2104.09044).

From the embedding down to the first stage, each level of the student is fused with what came from the deeper ones
(ABF), and each fused level is compared with the teacher's level in several resolutions (HCL):

    x_l = a_l·C(f_l) + b_l·up(x_{l+1}),    a, b = sigmoid(conv[C(f_l), up(x_{l+1})])
    L = Σ_l HCL( conv(x_l), t_l ),    HCL(u, t) = Σ_k 2^−k·mean( (pool_k u − pool_k t)² ) / Σ_k 2^−k

pool_0 keeps the size; pool_1, pool_2, ... are to 4×4, 2×2 and 1×1, as far as these are smaller. The teacher's stages
are taken before their last ReLU, as published. L grows to its weight over the first 20 epochs. The weight of 1 is the
published default; the published runs have others for single pairs (published.csv).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.maps import average_pool, pair_stages
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Epochs
from distiller_zoo.predictions import warm_up
from distiller_zoo.registry import register_method
from distiller_zoo.sums import summed
from models import Features

MAX_WIDTH = 512
POOLED_SIZES = (4, 2, 1)


def hierarchical_context_loss(f_s: Tensor, f_t: Tensor) -> Tensor:
    """Weighted mean over resolutions of the mean squared difference of two B×C×H×W maps of one shape."""
    loss, weight, total = F.mse_loss(f_s, f_t), 1.0, 1.0
    for size in POOLED_SIZES:
        if size < f_s.shape[2]:
            weight /= 2
            total += weight
            grid = (size, size)
            loss = loss + weight * F.mse_loss(average_pool(f_s, grid), average_pool(f_t, grid))
    return loss / total


class AttentionFusion(nn.Module):
    """One level of the student, fused with the deeper ones, at the size and width of the teacher's level (ABF).

    Args:
        channels_s: of the student's level.
        width: of what is handed from level to level.
        target: C×H×W of the teacher's level.
        fuses: False for the deepest level, which has nothing to be fused with.
    """

    def __init__(self, channels_s: int, width: int, target: tuple[int, int, int], fuses: bool):
        super().__init__()
        self.size = target[1:]
        self.conv_in = nn.Sequential(nn.Conv2d(channels_s, width, 1, bias=False), nn.BatchNorm2d(width))
        self.conv_out = nn.Sequential(nn.Conv2d(width, target[0], 3, padding=1, bias=False), nn.BatchNorm2d(target[0]))
        self.attention = nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid()) if fuses else None
        for conv in (self.conv_in.get_submodule("0"), self.conv_out.get_submodule("0")):
            nn.init.kaiming_uniform_(conv.get_parameter("weight"), a=1)

    def forward(self, f_s: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """The level to compare with the teacher's, and the input `deeper` of the next level.

        Args:
            f_s: B×C×H×W, the student's level.
            deeper: B×width×H'×W' of the level before; None for the deepest.
        """
        x = self.conv_in(f_s)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, x.shape[2:], mode="nearest")
            a, b = self.attention(torch.cat([x, deeper], dim=1)).split(1, dim=1)
            x = a * x + b * deeper
        if x.shape[2:] != self.size:
            x = F.interpolate(x, self.size, mode="nearest")
        return self.conv_out(x), x


@register_method("reviewkd")
class ReviewKD(Method):
    """Match all stages and the embedding, each fused with the deeper ones.

    Options:
        reviewkd_warmup: epochs over which the loss grows to its full weight; 0: none.
    """

    paper = "Chen et al., Distilling Knowledge via Knowledge Review, CVPR 2021"
    weights = Weights(gamma=1, alpha=0, beta=1)
    student_needs = ("stages", "embedding")
    teacher_needs = ("preacts", "embedding")
    reads_teacher_logits = False

    def __init__(self, pair: Pair, *, reviewkd_warmup: Epochs = 20):
        super().__init__(pair)
        self.warmup = reviewkd_warmup
        student, teacher = pair.student, pair.teacher
        self.pairs = pair_stages(len(student.stages), len(teacher.preacts))
        sources = [student.embedding, *(student.stages[i][0] for i, _ in reversed(self.pairs))]
        targets = [(teacher.embedding, 1, 1), *(teacher.preacts[j] for _, j in reversed(self.pairs))]
        width = min(MAX_WIDTH, student.embedding)
        self.fusions = nn.ModuleList(
            AttentionFusion(channels, width, target, fuses=place > 0)
            for place, (channels, target) in enumerate(zip(sources, targets, strict=True))
        )

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        levels_s = [student.embedding[:, :, None, None], *(student.stages[i] for i, _ in reversed(self.pairs))]
        levels_t = [teacher.embedding[:, :, None, None], *(teacher.preacts[j] for _, j in reversed(self.pairs))]
        losses, deeper = [], None
        for fusion, f_s, f_t in zip(self.fusions, levels_s, levels_t, strict=True):
            fused, deeper = fusion(f_s, deeper)
            losses.append(hierarchical_context_loss(fused, f_t))
        return summed(losses) * warm_up(batch.epoch, self.warmup)
