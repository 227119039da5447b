"""MLP-Mixer: an all-MLP Architecture for Vision (Tolstikhin et al., NeurIPS 2021, arXiv:2105.01601).

Parameter names and arithmetic are timm's, so timm's Mixer weights load unchanged. The stem is a
convolution whose kernel equals its stride, which is the per-patch linear layer.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from models.features import Features
from models.network import Network
from models.registry import register_model

NUM_STAGES = 4  # how many blocks' outputs stand for the stages of a CNN


class Mlp(nn.Module):
    """Linear → GELU → Linear over the last dimension."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class MixerBlock(nn.Module):
    """Token mixing, then channel mixing, each with pre-norm and residual. B×P×N → B×P×N."""

    def __init__(self, patches: int, width: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.mlp_tokens = Mlp(patches, width // 2)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp_channels = Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class Stem(nn.Module):
    """Cut the image into patches and embed each linearly. B×3×H×W → B×N×(H/p)×(W/p)."""

    def __init__(self, patch: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class MlpMixer(Network):
    """MLP-Mixer of `depth` blocks, `width` channels and square patches of `patch` pixels.

    Raises:
        RequestError: the image size is no multiple of the patch size.
    """

    classifier_name = "head"

    def __init__(self, width: int, depth: int, patch: int, num_classes: int, image_size: int):
        super().__init__()
        if image_size % patch:
            raise RequestError(
                f"a Mixer with {patch}×{patch} patches cannot cut images of {image_size}×{image_size}; "
                f"choose a Mixer whose patch size divides {image_size}"
            )
        self.image_size = image_size
        self.grid = image_size // patch
        self.stem = Stem(patch, width)
        self.blocks = nn.ModuleList(MixerBlock(self.grid**2, width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)
        self.stage_ends = sorted({(i + 1) * depth // NUM_STAGES - 1 for i in range(NUM_STAGES)} - {-1})
        self.apply(_initialise)
        nn.init.zeros_(self.head.weight)  # the paper's start: uniform predictions

    def features(self, x: Tensor) -> Features:
        stem = self.stem(x)
        tokens = stem.flatten(2).transpose(1, 2)
        maps = []
        for block in self.blocks:
            tokens = block(tokens)
            maps.append(tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid)))
        tokens = self.norm(tokens)
        last_map = tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        embedding = tokens.mean(dim=1)
        stages = tuple(maps[i] for i in self.stage_ends)
        return Features(self.head(embedding), embedding, stem, stages, stages, last_map, tuple(maps))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_in = module.weight[0].numel()
        nn.init.trunc_normal_(module.weight, std=fan_in**-0.5)
        nn.init.zeros_(module.bias)


def _register(name: str, width: int, depth: int, patch: int, summary: str) -> None:
    @register_model(name, family="mixer", summary=summary, recipe="deit")
    def build(num_classes: int, image_size: int) -> MlpMixer:
        return MlpMixer(width, depth, patch, num_classes, image_size)


_register("mixer_pico", 64, 4, 2, "MLP-Mixer for images of 8 to 16 px: 64 wide, 4 blocks, patch 2")
_register("mixer_nano", 128, 8, 4, "MLP-Mixer 128 wide, 8 blocks, patch 4 (1.1 M parameters at 32 px)")
_register("mixer_s4", 512, 8, 4, "MLP-Mixer-S with patch 4 (17.2 M at 32 px)")
_register("mixer_s16", 512, 8, 16, "MLP-Mixer-S/16 (18.5 M at 224 px)")
_register("mixer_b16", 768, 12, 16, "MLP-Mixer-B/16 (59.9 M at 224 px)")
