"""MLP-Mixer: an all-MLP Architecture for Vision (Tolstikhin et al., NeurIPS 2021, arXiv:2105.01601).

Parameter names and arithmetic are timm's, so timm's Mixer weights load unchanged.
"""

from functools import partial

from torch import Tensor, nn

from models.registry import register_model
from models.tokens import Mlp, TokenNetwork, TokenSizes


class MixerBlock(nn.Module):
    """Token mixing, then channel mixing, each with pre-norm and residual."""

    def __init__(self, patches: int, width: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.mlp_tokens = Mlp(patches, width // 2)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp_channels = Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """B×P×N to B×P×N, of P patches and N channels."""
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class MlpMixer(TokenNetwork):
    """MLP-Mixer of `depth` blocks, `width` channels and square patches of `patch` pixels.

    Raises:
        RequestError: the image size is no multiple of the patch size.
    """

    kind = "Mixer"

    def __init__(self, width: int, depth: int, patch: int, num_classes: int, image_size: int):
        super().__init__(
            partial(MixerBlock, width=width),
            nn.LayerNorm(width, eps=1e-6),
            TokenSizes(width, depth, patch),
            num_classes,
            image_size,
        )


def _register(name: str, width: int, depth: int, patch: int, summary: str) -> None:
    @register_model(name, family="mixer", summary=summary, recipe="deit")
    def build(num_classes: int, image_size: int) -> MlpMixer:
        return MlpMixer(width, depth, patch, num_classes, image_size)


_register("mixer_pico", 64, 4, 2, "MLP-Mixer for images of 8 to 16 px: 64 wide, 4 blocks, patch 2")
_register("mixer_nano", 128, 8, 4, "MLP-Mixer 128 wide, 8 blocks, patch 4 (1.1 M parameters at 32 px)")
_register("mixer_s4", 512, 8, 4, "MLP-Mixer-S with patch 4 (17.2 M at 32 px)")
_register("mixer_s16", 512, 8, 16, "MLP-Mixer-S/16 (18.5 M at 224 px)")
_register("mixer_b16", 768, 12, 16, "MLP-Mixer-B/16 (59.9 M at 224 px)")
