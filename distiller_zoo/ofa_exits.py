"""The exits of OFA-KD (see ofa.py): small networks from one stage of the student to logits.

On a CNN separable convolutions halve the map once for each stage that is still to come. On an MLP of one resolution
neighbouring patches are merged while 7×7 or more remain, and transformer blocks follow, one for each stage to come (the
last has one too); the mean of the patches is classified. That is so here for a ViT too, whose stages are maps of its
patches; the authors keep its class token through the exit and classify that.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

FINAL_GRID = 7
HEADS = 4
INITIAL_STD = 0.02


class SeparableConvolutions(nn.Sequential):
    """Two depthwise-separable convolutions: B×channels×H×W → B×width×H/2×W/2."""

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
    """Network from B×C×H×W maps to B×K logits, for a stage with `remaining` stages above it.

    Args:
        width: of the last convolution.
    """
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
    """B×K logits from the tokens of an MLP that keeps one resolution, as a B×C×H×W map.

    Args:
        shape: C, H, W.
        remaining: stages above this one.
    """

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


def initialise(module: nn.Module) -> None:
    """Initialise a convolution or a linear layer as the authors do; other layers stay as they are."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INITIAL_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
