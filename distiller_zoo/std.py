"""STD: Spatial-channel Token Distillation for Vision MLPs (Li, Chen, Dong, Tang, Wang, Xu, ICML 2022).

A module reads the patch features Z (P patches × N channels) of one block and gives nothing back:

    T_S ← T_S + W2·GELU(W1·LN[Z; T_S])        spatial token, 1×N, mixed over the P+1 rows
    T_C ← T_C + W4·GELU(W3·LN[Z, T_C])        channel token, P×1, mixed over the N+1 columns
    z_dist = head([T_S, T_C])                 one linear head on the N+P numbers

    L = (1−α)·CE(z, y) + α·Σ_i w_i·CE(z_dist_i, argmax teacher_i),   α = ½ as γ = β = ½

Only the tokens are computed (W2 and W4 have one output row): with two modules on Mixer-S/16 that gives
22,163,112 parameters, the 22.2 M of the paper. Hidden widths are N/2 and 4N. The weight w_i of a sample
is the softmax over teachers of the negative entropy of teacher i's prediction: the confident teacher counts.
"""

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from distiller_zoo.method import Method, Pair, Weights
from distiller_zoo.registry import register_method
from distiller_zoo.teachers import confidence_weights

TOKEN_STD = 0.02


def hard_label_losses(logits_s: Tensor, logits_t: Tensor) -> Tensor:
    """B cross-entropies of a distillation head with the class that the teacher prefers; both inputs B×K."""
    return F.cross_entropy(logits_s, logits_t.argmax(dim=1), reduction="none")


class TokenMlp(nn.Module):
    """LayerNorm over the channels, then a two-layer perceptron that computes the token alone.

    Args:
        channels: width that is normalised.
        mixed: length of the dimension that is mixed; that dimension comes last in the perceptron.
    """

    def __init__(self, channels: int, mixed: int, hidden: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.fc1 = nn.Linear(mixed, hidden)
        self.fc2 = nn.Linear(hidden, 1)


class SpatialChannelModule(nn.Module):
    """The distillation branch on one block: both tokens and their head."""

    def __init__(self, patches: int, channels: int, num_classes: int):
        super().__init__()
        self.spatial_token = nn.Parameter(torch.empty(1, 1, channels))
        self.channel_token = nn.Parameter(torch.empty(1, patches, 1))
        self.spatial = TokenMlp(channels, patches + 1, channels // 2)
        self.channel = TokenMlp(channels + 1, channels + 1, 4 * channels)
        self.head = nn.Linear(channels + patches, num_classes)
        nn.init.trunc_normal_(self.spatial_token, std=TOKEN_STD)
        nn.init.trunc_normal_(self.channel_token, std=TOKEN_STD)

    def forward(self, block: Tensor) -> Tensor:
        """B×N×H×W output of a block → B×K logits."""
        z = block.flatten(2).transpose(1, 2)  # B×P×N
        batch = len(z)
        t_s = self.spatial_token.expand(batch, -1, -1)
        rows = self.spatial.norm(torch.cat([z, t_s.to(z.dtype)], dim=1)).transpose(1, 2)
        t_s = t_s.squeeze(1) + self.spatial.fc2(F.gelu(self.spatial.fc1(rows))).squeeze(2)
        t_c = self.channel_token.expand(batch, -1, -1)
        columns = self.channel.norm(torch.cat([z, t_c.to(z.dtype)], dim=2))
        t_c = t_c.squeeze(2) + self.channel.fc2(F.gelu(self.channel.fc1(columns))).squeeze(2)
        return self.head(torch.cat([t_s, t_c], dim=1))


@register_method("std")
class STD(Method):
    """Tokens beside the last block, or also beside the block two thirds of the way up.

    With two teachers and two modules the first teacher belongs to the intermediate module and the
    second to the last one (small teacher first is the paper's best setting). With one teacher, every
    module learns from it. Evaluated, the student answers with the mean of the logits of the class head
    and of the distillation heads (their mean, where there are two).

    Options:
        std_modules: where modules stand.
    """

    paper = "Li et al., Spatial-Channel Token Distillation for Vision MLPs, ICML 2022"
    weights = Weights(gamma=0.5, alpha=0, beta=0.5)
    student_needs = ("heads",)
    max_teachers = 2

    def __init__(self, pair: Pair, *, std_modules: Literal["last", "last+intermediate"] = "last"):
        super().__init__(pair)
        blocks = pair.student.blocks
        if not blocks:
            raise RequestError(
                "std distils into MLPs: its tokens read patches × channels, which this CNN student does not have; "
                "choose an MLP, for instance --model_s mixer_nano"
            )
        last = len(blocks) - 1
        self.taps = [last] if std_modules == "last" else [2 * len(blocks) // 3, last]
        if len(pair.teachers) > len(self.taps):
            raise RequestError("std with two teachers needs two modules; add --std_modules last+intermediate")
        self.branches = nn.ModuleList(
            SpatialChannelModule(height * width, channels, pair.student.num_classes)
            for channels, height, width in (blocks[tap] for tap in self.taps)
        )

    def attach(self, features):
        heads = tuple(branch(features.blocks[tap]) for branch, tap in zip(self.branches, self.taps, strict=True))
        return replace(features, heads=heads)

    def predict(self, features):
        return (features.logits + torch.stack(features.heads).mean(dim=0)) / 2

    def losses(self, student, teachers, batch):
        if len(teachers) == 1:
            teachers = teachers * len(self.branches)
        logits_t = [teacher.logits for teacher in teachers]
        weights = confidence_weights(logits_t)
        each = torch.stack([hard_label_losses(s, t) for s, t in zip(student.heads, logits_t, strict=True)])
        return {"std": (weights * each).sum(dim=0).mean()}
