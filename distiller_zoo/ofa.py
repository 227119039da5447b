"""OFA-KD: One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge Distillation (Hao, Guo, Han,
Tang, Hu, Wang, Xu, NeurIPS 2023, arXiv:2310.19444).

Each stage of the student gets an exit, a small network that ends in logits; so nothing of the teacher but its logits
is matched, whatever family it is of. Final logits and exits learn by a loss that can trust the label more than the
teacher (y is the label, p are softmax outputs at temperature T):

    ℓ = −( (p_t,y + 1)^γ − 1 )·log p_s,y − Σ_{c≠y} p_t,c^γ·log p_s,c          as in the authors' code
    ℓ = −(p_t,y + 1)^γ·log p_s,y − Σ_{c≠y} p_t,c·log p_s,c                     as in the paper (a cross-entropy more)
    L = ℓ(final logits) + w·Σ_exits ℓ

With γ = 1 the first is the plain cross-entropy with the teacher's output. Published numbers come from the code, so that
is the default. Its exits: on a CNN separable convolutions halve the map once for each stage that is still to come; on
an MLP of one resolution neighbouring patches are merged while 7×7 or more remain, and transformer blocks follow, one
for each stage to come (the last has one too); the mean of the patches is classified. That is so here for a ViT too,
whose stages are maps of its patches; the authors keep its class token through the exit and classify that. The settings
that they gave for CIFAR-100 rows have γ = 1, T = 1 and w = 0.1; their code's own default is w = 1. The label of a mixed
image is the class with the larger share of it, as in their code.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distiller_zoo.checks import check_positive
from distiller_zoo.method import Method, Pair, Weights
from distiller_zoo.registry import register_method

FINAL_GRID = 7
HEADS = 4
INITIAL_STD = 0.02


def ofa_loss(
    logits_s: Tensor, logits_t: Tensor, labels: Tensor, gamma: float, temperature: float, as_in_paper: bool = False
) -> Tensor:
    """Cross-entropy with the adaptively enhanced target, mean over the batch; logits B×K, labels B."""
    log_s = F.log_softmax(logits_s / temperature, dim=1)
    p_t = F.softmax(logits_t / temperature, dim=1)
    label = F.one_hot(labels, p_t.shape[1]).to(p_t.dtype)
    enhanced = (p_t + label) ** gamma
    target = torch.where(label > 0, enhanced, p_t) if as_in_paper else enhanced - label
    return -(target * log_s).sum(dim=1).mean()


class SeparableConvolutions(nn.Sequential):
    """Two depthwise-separable convolutions; the first halves the map."""

    def __init__(self, channels: int, width: int):
        super().__init__(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )


def convolutional_exit(channels: int, remaining: int, width: int, num_classes: int) -> nn.Sequential:
    """Logits from a B×C×H×W map that has `remaining` stages above it; the last convolution is `width` wide."""
    layers: list[nn.Module] = []
    for left in range(remaining, 0, -1):
        layers.append(SeparableConvolutions(channels, width if left == 1 else 2 * channels))
        channels *= 2
    if not remaining:
        layers.append(nn.Conv2d(channels, width, 1))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))


class PatchMerging(nn.Module):
    """Joins each 2×2 neighbouring patches into one of the same width. B×C×H×W → B×C×(H/2)×(W/2)."""

    def __init__(self, width: int, activation: nn.Module):
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduce = nn.Linear(4 * width, width, bias=False)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        joined = F.pixel_unshuffle(x, 2).permute(0, 2, 3, 1)
        return self.activation(self.reduce(self.norm(joined))).permute(0, 3, 1, 2)


class AttentionBlock(nn.Module):
    """Self-attention, then a perceptron, each with pre-norm and residual, as in ViT. B×P×C → B×P×C."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = math.gcd(HEADS, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(dim=3)
        x = x + self.mix((attention @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class TokenExit(nn.Module):
    """Logits from the tokens (as a map) of an MLP that keeps one resolution."""

    def __init__(self, shape: tuple[int, int, int], remaining: int, num_classes: int):
        super().__init__()
        width, grid = shape[0], min(shape[1:])
        merges = 0
        while grid // 2 >= FINAL_GRID and all(size % 2 ** (merges + 1) == 0 for size in shape[1:]):
            merges, grid = merges + 1, grid // 2
        smooth = [i == 0 or i < merges - 1 for i in range(merges)]  # where the authors have a GELU
        self.merge = nn.Sequential(*(PatchMerging(width, nn.GELU() if s else nn.Identity()) for s in smooth))
        self.blocks = nn.Sequential(*(AttentionBlock(width) for _ in range(max(remaining, 1))))
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.merge(x).flatten(2).transpose(1, 2)
        return self.head(self.blocks(tokens).mean(dim=1))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INITIAL_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@register_method("ofa")
class OFA(Method):
    """The teacher's logits for every stage of the student.

    Options:
        ofa_gamma: γ; above 1 the label counts more where the teacher is sure of it.
        ofa_temperature: T.
        ofa_weight: w, weight of the exits within the method's loss.
        ofa_form: the loss as the authors' code has it, or as the paper prints it.
    """

    paper = "Hao et al., One-for-All: Bridge the Gap Between Heterogeneous Architectures in KD, NeurIPS 2023"
    weights = Weights(gamma=1, alpha=0, beta=1)
    student_needs = ("stages",)
    standardises_itself = True  # the logits of exits too

    def __init__(
        self,
        pair: Pair,
        *,
        ofa_gamma: float = 1.0,
        ofa_temperature: float = 1.0,
        ofa_weight: float = 0.1,
        ofa_form: Literal["code", "paper"] = "code",
    ):
        super().__init__(pair)
        check_positive(ofa_gamma=ofa_gamma, ofa_temperature=ofa_temperature, ofa_weight=ofa_weight)
        self.gamma, self.temperature, self.weight = ofa_gamma, ofa_temperature, ofa_weight
        self.as_in_paper = ofa_form == "paper"
        student, stages = pair.student, pair.student.stages
        width = max(student.embedding, pair.teacher.embedding)
        self.exits = nn.ModuleList(
            TokenExit(shape, len(stages) - number, student.num_classes)
            if student.blocks
            else convolutional_exit(shape[0], len(stages) - number, width, student.num_classes)
            for number, shape in enumerate(stages, start=1)
        )
        self.exits.apply(_initialise)

    def losses(self, student, teachers, batch):
        logits_t, labels = self.standardise(teachers[0].logits), batch.main_labels

        def loss(logits: Tensor) -> Tensor:
            z = self.standardise(logits)
            return ofa_loss(z, logits_t, labels, self.gamma, self.temperature, self.as_in_paper)

        exits = [loss(leave(f)) for leave, f in zip(self.exits, student.stages, strict=True)]
        return {"ofa_logits": loss(student.logits), "ofa_exits": self.weight * sum(exits)}
