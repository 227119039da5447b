"""CycleMLP: A MLP-like Architecture for Dense Prediction (Chen, Xie, Ge, Chen, Liang, Luo, ICLR 2022,
arXiv:2107.10224).

A Cycle FC is a linear layer over the channels in which channel c is read one step aside, along one axis:

    y[p] = W·x' + b,   x'[c] = x[p + s(c), c],   s = 0, +1, −1, 0, +1, −1, ... and zero outside the map

The authors compute it as a deformable convolution whose offsets are the constants s; a shift of three groups of
channels and one linear layer give the same numbers several times faster. Parameter names are the authors'; their
checkpoints, which hold those constants as well (`offset`), load unchanged.

Images of 64 px or less get a stem of our own, since the published one (7×7, stride 4) leaves a single position of
32 px to the last stage: 3×3 with stride 2, or 1 below 16 px, and the last transition keeps its resolution. So 32 px
become maps of 16, 8, 4, 4 and 8 px maps of 8, 4, 2, 2, where 224 px become 56, 28, 14, 7.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.features import Features
from models.network import Network
from models.registry import register_model
from models.tokens import LINEAR_STD, Mlp, init_linear

SHIFTS = (0, 1, -1)  # s of channel c is SHIFTS[c % 3]
HEIGHT, WIDTH = 1, 2  # dimensions of B×H×W×C
SMALL_IMAGE = 64  # px; up to here the stem is our own
TINY_IMAGE = 16  # px; below it that stem keeps the resolution


def cycle_shift(x: Tensor, dim: int) -> Tensor:
    """Shift channel c of B×H×W×C by SHIFTS[c % 3]: position p of `dim` (HEIGHT or WIDTH) takes the value at p + shift.

    Positions outside the map are zero.
    """
    length = x.shape[dim]
    padded = F.pad(x, (0, 0, 1, 1) if dim == WIDTH else (0, 0, 0, 0, 1, 1))
    shifted = torch.empty_like(x)
    for first, shift in enumerate(SHIFTS):
        shifted[..., first::3] = padded.narrow(dim, 1 + shift, length)[..., first::3]
    return shifted


class CycleFC(nn.Module):
    """A linear layer over channels that are read one step aside along `dim` (see `cycle_shift`)."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.empty(width, width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.trunc_normal_(self.weight, std=LINEAR_STD)

    def forward(self, x: Tensor) -> Tensor:
        """B×H×W×C to B×H×W×C."""
        return F.linear(cycle_shift(x, self.dim), self.weight.flatten(1), self.bias)


class CycleMixing(nn.Module):
    """Two Cycle FCs and a channel FC, summed with weights that each image gives to each channel.

    The weights are a softmax over the three branches, computed from the mean over positions of their sum.
    """

    def __init__(self, width: int):
        super().__init__()
        self.mlp_c = nn.Linear(width, width, bias=False)
        self.sfc_h = CycleFC(width, WIDTH)  # the authors' name for the one whose kernel is 1×3
        self.sfc_w = CycleFC(width, HEIGHT)
        self.reweight = Mlp(width, width // 4, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """B×H×W×C to B×H×W×C."""
        h, w, c = self.sfc_h(x), self.sfc_w(x), self.mlp_c(x)
        scores = self.reweight((h + w + c).mean(dim=(1, 2)))  # B×3C, the three of a channel side by side
        of_h, of_w, of_c = scores.unflatten(1, (-1, 3)).softmax(dim=2)[:, None, None].unbind(dim=-1)
        return self.proj(h * of_h + w * of_w + c * of_c)


class CycleBlock(nn.Module):
    """Cycle FCs, then a perceptron over the channels, each with pre-norm and residual."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = CycleMixing(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """B×H×W×C to B×H×W×C."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """Overlapping patches embedded linearly: the stem, and the step between stages."""

    def __init__(self, in_channels: int, width: int, kernel: int, stride: int, padding: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, kernel, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """B×C×H×W to B×N×H/stride×W/stride."""
        return self.proj(x)


class CycleMLP(Network):
    """Four stages of `depths` blocks, `widths` channels wide; any image size.

    `Features.blocks` are those of the last stage, which share one resolution; STD attaches its modules to them.
    """

    classifier_name = "head"
    constants = ("offset",)

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...], num_classes: int, image_size: int):
        super().__init__()
        self.image_size = image_size
        self.patch_embed = _stem(widths[0], image_size)
        layers: list[nn.Module] = []  # stage, transition, stage, ..., stage
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if number:
                keeps = image_size <= SMALL_IMAGE and number == len(widths) - 1
                layers.append(PatchEmbedding(widths[number - 1], width, 3, 1 if keeps else 2, padding=1))
            layers.append(nn.Sequential(*(CycleBlock(width) for _ in range(depth))))
        self.network = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(widths[-1])
        self.head = nn.Linear(widths[-1], num_classes)
        self.apply(init_linear)

    def features(self, x: Tensor) -> Features:
        stem = x = self.patch_embed(x)
        *earlier, last_stage = self.network
        outputs, blocks = [], []
        for stage, transition in zip(earlier[::2], earlier[1::2], strict=True):
            outputs.append(_channels_first(stage(_channels_last(x))))
            x = transition(outputs[-1])
        x = _channels_last(x)
        for block in last_stage.children():
            x = block(x)
            blocks.append(_channels_first(x))
        stages = (*outputs, blocks[-1])
        x = self.norm(x)
        embedding = x.mean(dim=(1, 2))
        return Features(self.head(embedding), embedding, stem, stages, stages, _channels_first(x), tuple(blocks))


def _stem(width: int, image_size: int) -> PatchEmbedding:
    if image_size > SMALL_IMAGE:
        return PatchEmbedding(3, width, kernel=7, stride=4, padding=2)
    return PatchEmbedding(3, width, kernel=3, stride=1 if image_size < TINY_IMAGE else 2, padding=1)


def _channels_last(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1)


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _register(name: str, widths: tuple[int, ...], depths: tuple[int, ...], summary: str) -> None:
    register_model(name, family="cyclemlp", summary=summary, recipe="deit")(partial(CycleMLP, widths, depths))


_PUBLISHED_WIDTHS = (64, 128, 320, 512)

_register("cyclemlp_nano", (32, 64, 96, 128), (1, 1, 2, 2), "CycleMLP for images of 8 to 64 px (0.9 M at 32 px)")
_register("cyclemlp_b1", _PUBLISHED_WIDTHS, (2, 2, 4, 2), "CycleMLP-B1 (15.2 M at 224 px)")
_register("cyclemlp_b2", _PUBLISHED_WIDTHS, (2, 3, 10, 3), "CycleMLP-B2 (26.8 M at 224 px)")
